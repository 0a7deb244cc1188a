//! YAML becomes JSON that can be stored and that stays within its bounds, or an error that names a
//! line of it; and the JSON, being YAML too, reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vogeler_fuzz::expect_storable;
use vogeler_protocol::Format;
use vogeler_protocol::data::BadData;
use vogeler_protocol::format::BadOutput;

/// What aliases may add up to.
const ALIASES: usize = 16 << 20;

/// Most bytes of JSON for one byte of YAML that is no alias: a control character in a block is six,
/// and an entry with nothing in it, `null` and a comma, is five for two.
const GROWTH: usize = 8;

fuzz_target!(|output: &[u8]| {
    match Format::Yaml.read(output) {
        Ok(data) => {
            let most = ALIASES + GROWTH * output.len();
            assert!(data.get().len() <= most, "{} bytes of JSON from {} of YAML", data.get().len(), output.len());
            expect_storable(&data);
            // A parser may refuse it: a key has to fit in 1,024 characters, some characters are no YAML.
            if data.get().len() <= vogeler_fuzz::LARGE
                && let Ok(again) = Format::Yaml.read(data.get().as_bytes())
            {
                assert_eq!(again.get(), data.get(), "JSON is YAML");
            }
        }
        Err(BadOutput::Data(_, BadData::Syntax(error))) => panic!("what was written for it is no JSON: {error}"),
        Err(BadOutput::Data(..) | BadOutput::Empty(_)) => assert!(std::str::from_utf8(output).is_ok()),
        Err(BadOutput::Yaml(error)) => names_a_line(&error.to_string(), output),
        Err(BadOutput::Utf8(_)) => assert!(std::str::from_utf8(output).is_err()),
        Err(error @ BadOutput::KeyValue { .. }) => panic!("YAML is not read by lines: {error}"),
    }
});

fn names_a_line(words: &str, output: &[u8]) {
    let number = words.strip_prefix("line ").and_then(|rest| rest.split_once(':')?.0.parse::<usize>().ok());
    let breaks = output.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    assert!(number.is_some_and(|line| (1..=breaks + 1).contains(&line)), "{breaks} line breaks: {words}");
}
