//! What was probably meant.

/// A hint with the name in `known` that is nearest to `name`, or nothing where none is near.
pub(super) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= 2.max(candidate.len() / 3) => {
            format!("; did you mean {candidate:?}?")
        }
        _ => String::new(),
    }
}
