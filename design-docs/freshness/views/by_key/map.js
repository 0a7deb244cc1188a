// How old the data under a key are, on every node.
//   ?reduce=false&startkey=["packages"]&endkey=["packages","2026-11-01"]    older than that day
//   ?group_level=1                                                          how many nodes have each key
// The time is the node's own (collected_at), but never later than when the data came in: a clock
// that is ahead does not make them fresh. Without a readable time it is null, older than all.
function (doc) {
  if (doc.doc_type !== 'SystemRecord') {
    return;
  }
  var results = doc.vogeler && doc.vogeler.results;
  if (!results || typeof results !== 'object' || Array.isArray(results)) {
    return;
  }
  // Vogeler writes UTC with a Z: as text such times stand in order.
  function time(value) {
    var utc = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
    return typeof value === 'string' && utc.test(value) ? value : null;
  }
  Object.keys(results).forEach(function (key) {
    var entry = results[key];
    if (!entry || typeof entry !== 'object' || Array.isArray(entry)) {
      return;
    }
    var collected = time(entry.collected_at);
    var received = time(entry.received_at);
    var ahead = collected !== null && received !== null && collected > received;
    emit([key, collected === null || ahead ? received : collected], null);
  });
}
