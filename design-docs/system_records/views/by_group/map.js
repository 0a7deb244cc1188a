// Which nodes are in a group, as their clients last said. Retired ones are left out.
//   ?reduce=false&key="web"          one row a node
//   ?group=true                      every group, and how many nodes it has
function (doc) {
  if (doc.doc_type !== 'SystemRecord' || (doc.vogeler && doc.vogeler.retired)) {
    return;
  }
  var client = doc.vogeler && doc.vogeler.client;
  var groups = client && client.groups;
  if (!Array.isArray(groups)) {
    return;
  }
  var seen = {};
  groups.forEach(function (group) {
    // The prefix keeps a group apart from what every object inherits.
    if (typeof group === 'string' && !seen['=' + group]) {
      seen['=' + group] = true;
      emit(group, null);
    }
  });
}
