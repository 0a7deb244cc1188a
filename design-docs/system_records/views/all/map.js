// Which nodes there are, by the id of their record; with the reduce, how many.
//   ?reduce=false                    one row a node
//   (no query)                       how many nodes
function (doc) {
  if (doc.doc_type === 'SystemRecord') {
    emit(doc._id, null);
  }
}
