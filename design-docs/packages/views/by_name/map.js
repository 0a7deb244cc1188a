// Which nodes have a package, and at which version.
//   ?reduce=false&startkey=["openssl"]&endkey=["openssl",{}]     one row a node and version
//   ?reduce=false&key=["openssl","3.0.15-1"]                     the nodes at that version
//   ?group_level=2&startkey=["openssl"]&endkey=["openssl",{}]    how many nodes have each version
// Versions are text. Where the record has something else, the row says null: the package is
// there, at a version that nobody knows.
function (doc) {
  if (doc.doc_type !== 'SystemRecord') {
    return;
  }
  var packages = doc.packages;
  if (!packages || typeof packages !== 'object' || Array.isArray(packages)) {
    return;
  }
  Object.keys(packages).forEach(function (name) {
    var installed = packages[name];
    var seen = {};
    (Array.isArray(installed) ? installed : [installed]).forEach(function (version) {
      var known = typeof version === 'string' || typeof version === 'number';
      // One version for two architectures is one row, so that rows count nodes. The prefix keeps
      // a version apart from what every object inherits.
      var mark = known ? '=' + version : '';
      if (!seen[mark]) {
        seen[mark] = true;
        emit([name, known ? String(version) : null], null);
      }
    });
  });
}
