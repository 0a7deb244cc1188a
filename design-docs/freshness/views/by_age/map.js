// What came in longest ago, whatever its key, by the server's clock.
//   ?reduce=false&limit=20                          the oldest first
//   ?reduce=false&endkey=["2026-11-01"]             what has not come in since that day
//   ?endkey=["2026-11-01"]                          how many such
//   ?reduce=false&descending=true&limit=20          the latest
// Without a readable time it is null, older than all.
function (doc) {
  if (doc.doc_type !== 'SystemRecord') {
    return;
  }
  var results = doc.vogeler && doc.vogeler.results;
  if (!results || typeof results !== 'object' || Array.isArray(results)) {
    return;
  }
  Object.keys(results).forEach(function (key) {
    var entry = results[key];
    if (!entry || typeof entry !== 'object' || Array.isArray(entry)) {
      return;
    }
    // Vogeler writes UTC with a Z: as text such times stand in order.
    var utc = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
    var received = entry.received_at;
    emit([typeof received === 'string' && utc.test(received) ? received : null, key], null);
  });
}
