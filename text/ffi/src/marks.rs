//! Breaks up, inside content only, whatever could be read as a control token once rendered: a mark
//! (a private-use code point that occurs nowhere in the input) goes after the first character.

use std::collections::HashSet;

use aho_corasick::AhoCorasick;
use serde_json::{Map, Value};

use crate::error::{Failure, OrInvalid, Outcome};

pub struct Marker {
    matcher: AhoCorasick,
    // Proper prefixes and suffixes, in lower case: what two contents side by side could complete.
    prefixes: HashSet<String>,
    suffixes: HashSet<String>,
    longest: usize, // characters
}

impl Marker {
    pub fn new(control_tokens: &[String]) -> Outcome<Self> {
        // Templates may change case, so it does not count here.
        let matcher = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(control_tokens)
            .or_invalid("control tokens")?;
        let mut prefixes = HashSet::new();
        let mut suffixes = HashSet::new();
        let mut longest = 0;
        for token in control_tokens {
            let token = token.to_ascii_lowercase();
            longest = longest.max(token.chars().count());
            for (at, _) in token.char_indices().skip(1) {
                prefixes.insert(token[..at].to_string());
                suffixes.insert(token[at..].to_string());
            }
        }
        Ok(Marker { matcher, prefixes, suffixes, longest })
    }

    /// All strings and keys below `value`.
    pub fn mark_value(&self, value: &mut Value, mark: char) {
        match value {
            Value::String(s) => self.mark_string(s, mark, true),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark_value(item, mark)),
            Value::Object(map) => self.mark_map(map, mark),
            _ => {}
        }
    }

    fn mark_map(&self, map: &mut Map<String, Value>, mark: char) {
        if map.keys().any(|key| self.matcher.is_match(key.as_str())) {
            *map = std::mem::take(map)
                .into_iter()
                .map(|(mut key, value)| {
                    self.mark_string(&mut key, mark, false);
                    (key, value)
                })
                .collect();
        }
        for (key, value) in map.iter_mut() {
            match value {
                // Templates compare these with words of their own, which may be parts of control
                // tokens ("user" of <|user|>): only a whole token is broken up there.
                Value::String(s) if key == "role" || key == "type" => {
                    self.mark_string(s, mark, false)
                }
                _ => self.mark_value(value, mark),
            }
        }
    }

    fn mark_string(&self, s: &mut String, mark: char, edges: bool) {
        let mut at: Vec<usize> = Vec::new();
        let after_first = |from: usize| from + s[from..].chars().next().map_or(0, char::len_utf8);
        for found in self.matcher.find_overlapping_iter(s.as_str()) {
            at.push(after_first(found.start()));
        }
        if edges {
            self.mark_edges(s, &mut at);
        }
        if at.is_empty() {
            return;
        }
        at.sort_unstable();
        at.dedup();
        let mut marked = String::with_capacity(s.len() + at.len() * mark.len_utf8());
        let mut from = 0;
        for position in at {
            marked.push_str(&s[from..position]);
            marked.push(mark);
            from = position;
        }
        marked.push_str(&s[from..]);
        *s = marked;
    }

    /// Templates trim contents, so white space at the edges does not count.
    fn mark_edges(&self, s: &str, at: &mut Vec<usize>) {
        let end = s.trim_end().len();
        for (start, c) in s[..end].char_indices().rev().take(self.longest) {
            if self.prefixes.contains(s[start..end].to_ascii_lowercase().as_str()) {
                at.push(start + c.len_utf8());
            }
        }
        let start = s.len() - s.trim_start().len();
        for (offset, c) in s[start..].char_indices().take(self.longest) {
            let stop = start + offset + c.len_utf8();
            if self.suffixes.contains(s[start..stop].to_ascii_lowercase().as_str()) {
                at.push(start + offset);
            }
        }
    }
}

/// Private-use code points that occur in none of the texts.
pub struct FreeMarks {
    used: Vec<bool>,
}

const FIRST: u32 = 0xE000;
const COUNT: usize = 6400;

impl FreeMarks {
    pub fn new() -> Self {
        FreeMarks { used: vec![false; COUNT] }
    }

    pub fn see_text(&mut self, text: &str) {
        // Their UTF-8 starts with 0xEE or 0xEF: most texts hold neither byte.
        if !text.bytes().any(|b| b == 0xEE || b == 0xEF) {
            return;
        }
        for c in text.chars() {
            if let Some(used) = (c as u32).checked_sub(FIRST).and_then(|i| self.used.get_mut(i as usize)) {
                *used = true;
            }
        }
    }

    pub fn see_value(&mut self, value: &Value) {
        match value {
            Value::String(s) => self.see_text(s),
            Value::Array(items) => items.iter().for_each(|item| self.see_value(item)),
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                self.see_text(key);
                self.see_value(value);
            }),
            _ => {}
        }
    }

    pub fn take(&mut self) -> Outcome<char> {
        let free = self.used.iter().position(|used| !used).ok_or_else(|| {
            Failure::invalid("the messages use every private-use character of Unicode's first plane")
        })?;
        self.used[free] = true;
        Ok(char::from_u32(FIRST + free as u32).unwrap_or('\u{E000}'))
    }
}
