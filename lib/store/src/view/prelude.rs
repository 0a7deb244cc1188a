//! What functions of a view find beside their own globals, in JavaScript.
//!
//! `given` is what they see. `open`, `map` and `reduce` are for the sandbox: they answer `[kind, text, stack]`, where the
//! kind is `done`, `thrown`, `fatal`, `memory` or `stack`.

/// An expression that evaluates to an object with `given`, `open`, `map` and `reduce`; `note` is to be set.
pub(super) const PRELUDE: &str = r"(function () {
  'use strict';
  var parts = { doc: null };
  var rows = [];
  var isArray = Array.isArray;
  var stringify = JSON.stringify;
  var keys = Object.keys;
  var freeze = Object.freeze;
  var isFrozen = Object.isFrozen;
  var text = String;
  // A function sees neither the prelude nor its globals as `this`.
  var invoke = Function.prototype.call.bind(Function.prototype.call);

  function seal(value) {
    if (value === null || typeof value !== 'object' || isFrozen(value)) {
      return;
    }
    freeze(value);
    var names = keys(value);
    for (var i = 0; i < names.length; i++) {
      seal(value[names[i]]);
    }
  }

  // An error of any realm, as CouchDB emits and logs it.
  function plain(value) {
    var error = typeof value === 'object' && value !== null && 'stack' in value && 'name' in value && 'message' in value;
    return error ? { error: value.name, message: value.message } : value;
  }

  function words(error) {
    if (typeof error === 'object' && error !== null && !('message' in error)) {
      return stringify(error);
    }
    return text(error);
  }

  // What CouchDB does about something thrown.
  function kind(error) {
    if (error === null || error === undefined || error == 'fatal_error' || error[0] == 'fatal') {
      return 'fatal';
    }
    if (error.name === 'InternalError') {
      return error.message === 'out of memory' ? 'memory' : error.message === 'stack overflow' ? 'stack' : 'fatal';
    }
    return error.name === 'RangeError' && /call stack/.test(error.message) ? 'stack' : 'thrown';
  }

  function refused(error, least) {
    var of = 'fatal', said = 'something that cannot be told', stack = '';
    try {
      of = kind(error);
      said = words(error);
      stack = error && typeof error.stack === 'string' ? error.stack : '';
    } catch (again) {
      // An error that throws when it is looked at.
    }
    return [of === 'thrown' ? least : of, text(said), stack];
  }

  var given = {
    emit: function emit(key, value) {
      rows.push([key, plain(value)]);
    },
    sum: function sum(values) {
      var total = 0;
      for (var i in values) {
        total += values[i];
      }
      return total;
    },
    toJSON: stringify,
    JSON: JSON,
    isArray: function (value) {
      return isArray(value);
    },
    log: function log(message) {
      parts.note(text(typeof message === 'string' ? message : stringify(plain(message))));
    },
    require: function require(name) {
      throw new Error('require is not available here: a function of a view stands by itself (' + name + ')');
    }
  };
  for (var name in given) {
    freeze(given[name]);
  }

  parts.given = given;
  parts.open = function (doc) {
    seal(doc);
    parts.doc = doc;
  };
  parts.map = function (fun) {
    rows = [];
    try {
      invoke(fun, {}, parts.doc);
    } catch (error) {
      return refused(error, 'thrown');
    }
    try {
      return ['done', stringify(rows), ''];
    } catch (error) {
      return refused(error, 'fatal');
    } finally {
      rows = [];
    }
  };
  parts.reduce = function (fun, keys, values, again) {
    var result;
    try {
      result = invoke(fun, {}, keys, values, again);
    } catch (error) {
      return refused(error, 'thrown');
    }
    try {
      result = stringify(result);
      return ['done', result === undefined ? 'null' : result, ''];
    } catch (error) {
      return refused(error, 'fatal');
    }
  };
  return parts;
})()";
