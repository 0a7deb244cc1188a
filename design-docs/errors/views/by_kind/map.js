// What fails now, by the kind of failure.
//   ?group_level=1                                                 how many of each kind
//   ?reduce=false&startkey=["timeout"]&endkey=["timeout",{}]       the nodes and keys that timed out
//   ?reduce=false&key=["exit","jmx"]                               the nodes whose jmx exited badly
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
      emit([typeof entry.kind === 'string' ? entry.kind : null, key], null);
    }
  });
}
