// What fails now, by the key whose data it holds up.
//   ?reduce=false&startkey=["jmx"]&endkey=["jmx",{}]     the nodes where jmx fails, and how
//   ?group_level=1                                       how many nodes fail at each key
// A kind that is no text is null.
function (doc) {
  if (doc.doc_type !== 'SystemRecord') {
    return;
  }
  var errors = doc.vogeler && doc.vogeler.errors;
  if (!errors || typeof errors !== 'object' || Array.isArray(errors)) {
    return;
  }
  Object.keys(errors).forEach(function (key) {
    var entry = errors[key];
    if (entry && typeof entry === 'object' && !Array.isArray(entry)) {
      emit([key, typeof entry.kind === 'string' ? entry.kind : null], null);
    }
  });
}
