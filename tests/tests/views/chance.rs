//! Questions drawn at random, of keys that there are and of keys that there are not.

use std::time::Duration;

use serde_json::{Map, Value, json};
use vogeler_protocol::Random;

use crate::answers::Answer;
use crate::fixture::{Question, View};

/// Draws questions to the views that it has learnt of.
pub(crate) struct Chance {
    random: Random,
    views: Vec<(View, Vec<Value>)>,
}

impl Chance {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, views: Vec::new() }
    }

    /// Learns a view and the keys of its rows.
    pub(crate) fn learn(&mut self, view: &View, unreduced: &Answer) {
        let keys = unreduced.rows().iter().map(|row| row[1].clone()).collect();
        self.views.push((view.clone(), keys));
    }

    pub(crate) fn draw(&self) -> Question {
        let (view, keys) = &self.views[self.below(self.views.len())];
        let mut asked = Map::new();
        let mut put = |name: &str, value: Value| _ = asked.insert(name.to_owned(), value);
        match self.below(6) {
            0 => {}
            1 => put("key", self.key(keys)),
            2 => put("startkey", self.key(keys)),
            3 => put("endkey", self.key(keys)),
            _ => {
                put("startkey", self.key(keys));
                put("endkey", self.key(keys));
            }
        }
        match self.below(8) {
            0 | 1 => put("reduce", false.into()),
            2 => put("reduce", true.into()),
            3 => put("group", true.into()),
            level @ 4..=6 => put("group_level", (level - 4).into()),
            _ => {}
        }
        if self.below(3) == 0 {
            put("descending", true.into());
        }
        if self.below(3) == 0 {
            put("limit", self.below(12).into());
        }
        Question { design: view.design.clone(), view: view.name.clone(), asked }
    }

    fn below(&self, end: usize) -> usize {
        let last = u64::try_from(end).unwrap() - 1;
        usize::try_from(self.random.up_to(Duration::from_millis(last)).as_millis()).unwrap()
    }

    /// One of the view's keys, the beginning of one, or any other.
    fn key(&self, keys: &[Value]) -> Value {
        let known = || (!keys.is_empty()).then(|| keys[self.below(keys.len())].clone());
        let others = json!([null, false, true, -1, 0, 7.5, 1e12, "", "a", "M", "web\u{fff0}", "日", [], [null], ["m"], [[]], {}, {"a": {}}]);
        let other = || others[self.below(others.as_array().map_or(0, Vec::len))].clone();
        match (self.below(5), known()) {
            (0, _) | (_, None) => other(),
            (1, Some(Value::Array(mut elements))) => {
                elements.truncate(self.below(elements.len() + 1));
                elements.push(other());
                elements.into()
            }
            (2, Some(Value::String(text))) => text.chars().take(self.below(4)).collect::<String>().into(),
            (_, Some(key)) => key,
        }
    }
}
