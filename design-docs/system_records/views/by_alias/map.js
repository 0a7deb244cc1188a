// Which nodes know a command alias, as their clients last said.
//   ?reduce=false&key="rpms"         one row a node
//   ?group=true                      every alias, and how many nodes know it
function (doc) {
  if (doc.doc_type !== 'SystemRecord') {
    return;
  }
  var client = doc.vogeler && doc.vogeler.client;
  var aliases = client && client.aliases;
  if (!aliases || typeof aliases !== 'object' || Array.isArray(aliases)) {
    return;
  }
  Object.keys(aliases).forEach(function (alias) {
    emit(alias, null);
  });
}
