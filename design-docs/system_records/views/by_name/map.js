// Which records carry a system name.
//   ?reduce=false&key="web01.example.com"
//   ?reduce=false&startkey="web"&endkey="web\ufff0"     names that start with web
// A record without a usable system_name stands under its id, so that none is missing here.
function (doc) {
  if (doc.doc_type !== 'SystemRecord') {
    return;
  }
  var named = typeof doc.system_name === 'string' && doc.system_name !== '';
  emit(named ? doc.system_name : doc._id, null);
}
