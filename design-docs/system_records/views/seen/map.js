// When was each node last heard of? The value is milliseconds since 1970, null where the record
// does not say; vogeler-runner asks this to know which nodes there are. Retired ones are left out.
//   _view/seen            _view/seen?key="web01.example.com"
function (doc) {
  if (doc.doc_type !== 'SystemRecord' || (doc.vogeler && doc.vogeler.retired)) {
    return;
  }
  var at = typeof doc.updated_at === 'string' ? Date.parse(doc.updated_at) : NaN;
  emit(doc._id, isFinite(at) ? at : null);
}
