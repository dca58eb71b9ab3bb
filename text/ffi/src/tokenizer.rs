//! A tokenizer in its variants over one shared vocabulary, and its table of tokens.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl,
};

use crate::decoding::DecodeRule;
use crate::error::{Failure, OrInvalid, Outcome};
use crate::model::SharedModel;

pub type Variant = TokenizerImpl<
    SharedModel,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

pub const IN_VOCAB: u8 = 1;
pub const SPECIAL: u8 = 2;

/// The four tokens with a role.
#[derive(Clone, Copy, Default)]
pub struct RoleIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
}

/// Everything per id, flat: [vocab] texts and bytes by offset, [vocab] flags.
#[derive(Default)]
pub struct TokenTable {
    pub texts: Vec<u8>,
    pub text_ends: Vec<u32>,
    pub bytes: Vec<u8>,
    pub byte_ends: Vec<u32>,
    pub flags: Vec<u8>,
}

impl TokenTable {
    pub fn push(&mut self, text: &str, bytes: &[u8], flags: u8) {
        self.texts.extend_from_slice(text.as_bytes());
        self.text_ends.push(self.texts.len() as u32);
        self.bytes.extend_from_slice(bytes);
        self.byte_ends.push(self.bytes.len() as u32);
        self.flags.push(flags);
    }
}

struct Control {
    id: u32,
    lstrip: bool,
    rstrip: bool,
}

pub struct Tokenizer {
    with_specials: Variant,
    without_specials: Variant,
    // Where only the first piece of a text gets a space put before it: for the other pieces.
    continuation: Option<Variant>,
    control_matcher: AhoCorasick,
    controls: Vec<Control>,
    // Added tokens that are not special, as <tool_call> in Qwen: a template may give them a meaning.
    words: Vec<String>,
    word_matcher: AhoCorasick,
    special: Vec<bool>, // [vocab]
    unk: Option<u32>,
    // A GGUF's add_bos_token and add_eos_token; tokenizer.json has a post-processor instead.
    prefix: Option<u32>,
    suffix: Option<u32>,
    pub table: TokenTable,
    pub roles: RoleIds,
    pub end_ids: Vec<u32>,
    pub rule: DecodeRule,
}

/// What a constructor has settled, before the variants are made of it.
pub struct Parts {
    pub base: Variant, // control tokens parsed
    pub rule: DecodeRule,
    pub roles: RoleIds,
    pub end_ids: Vec<u32>,
    pub table: TokenTable,
    pub prefix: Option<u32>,
    pub suffix: Option<u32>,
}

/// Work on a token grows with the square of its length when merges are made from scores (GGUF's
/// `llama`), and when content is searched for parts of control tokens. Real ones are far shorter.
pub const MAX_TOKEN_BYTES: usize = 4096;
pub const MAX_CONTROL_TOKEN_BYTES: usize = 256;

pub fn long_token(token: &str, most: usize) -> Failure {
    let start: String = token.chars().take(32).collect();
    Failure::invalid(format!("token \"{start}...\" has {} bytes; at most {most} are supported", token.len()))
}

impl Tokenizer {
    pub fn from_parts(parts: Parts) -> Outcome<Self> {
        let Parts { base, rule, roles, end_ids, table, prefix, suffix } = parts;
        let mut added: Vec<(u32, AddedToken)> =
            base.get_added_tokens_decoder().into_iter().filter(|(_, t)| t.special).collect();
        added.sort_by_key(|(id, _)| *id);
        let long = added.iter().find(|(_, t)| t.content.len() > MAX_CONTROL_TOKEN_BYTES);
        if let Some((_, token)) = long {
            return Err(long_token(&token.content, MAX_CONTROL_TOKEN_BYTES));
        }
        let control_matcher = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(added.iter().map(|(_, t)| t.content.as_str()))
            .or_invalid("control tokens")?;
        let controls = added
            .iter()
            .map(|(id, t)| Control { id: *id, lstrip: t.lstrip, rstrip: t.rstrip })
            .collect();
        // One that is normalised or blank belongs to ordinary text.
        let mut words: Vec<String> = base
            .get_added_tokens_decoder()
            .into_values()
            .filter(|t| !t.special && !t.normalized && t.content.chars().count() > 2)
            .filter(|t| t.content.len() <= MAX_CONTROL_TOKEN_BYTES && !t.content.trim().is_empty())
            .map(|t| t.content)
            .collect();
        words.sort();
        let word_matcher = AhoCorasick::new(&words).or_invalid("added tokens")?;
        let mut without_specials = base.clone();
        without_specials.set_encode_special_tokens(true);
        let continuation = continuation_of(&without_specials)?;
        let special = table.flags.iter().map(|f| f & SPECIAL != 0).collect();
        let unk = base.get_model().unk_id();
        Ok(Tokenizer {
            with_specials: base,
            without_specials,
            continuation,
            control_matcher,
            controls,
            words,
            word_matcher,
            special,
            unk,
            prefix,
            suffix,
            table,
            roles,
            end_ids,
            rule,
        })
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.with_specials.token_to_id(token)
    }

    pub fn token_text(&self, id: u32) -> Option<String> {
        self.with_specials.id_to_token(id)
    }

    /// In id order.
    pub fn control_tokens(&self) -> Vec<String> {
        let names = self.controls.iter().filter_map(|control| self.token_text(control.id));
        names.collect()
    }

    /// The added tokens that are not special and may stand for something in a template.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    pub fn encode(&self, text: &str, add_special: bool, as_text: bool) -> Outcome<Vec<u32>> {
        refuse_long_blank(text)?;
        let variant = if as_text { &self.without_specials } else { &self.with_specials };
        let mut ids = Vec::new();
        if add_special {
            ids.extend(self.prefix);
        }
        let body = variant.encode_fast(text, add_special).or_invalid("encode")?;
        if as_text {
            // What the post-processor put around the text is meant.
            let mask = body.get_special_tokens_mask().iter();
            let own = body.get_ids().iter().zip(mask).filter(|(_, mask)| **mask == 0);
            self.refuse_controls(own.map(|(id, _)| *id))?;
        }
        ids.extend_from_slice(body.get_ids());
        if add_special {
            ids.extend(self.suffix);
        }
        Ok(ids)
    }

    /// Control tokens that stand unbroken become ids; the pieces between are encoded as text once
    /// their marks are gone.
    pub fn encode_marked(&self, text: &str, mark: Option<char>) -> Outcome<Vec<u32>> {
        refuse_long_blank(text)?;
        let mut ids = Vec::new();
        let mut start = 0;
        for found in self.control_matcher.find_iter(text) {
            let control = &self.controls[found.pattern().as_usize()];
            let before = &text[start.min(found.start())..found.start()];
            let before = if control.lstrip { before.trim_end() } else { before };
            self.encode_piece(before, start == 0, mark, &mut ids)?;
            ids.push(control.id);
            start = found.end();
            if control.rstrip {
                start += text[start..].len() - text[start..].trim_start().len();
            }
        }
        self.encode_piece(&text[start.min(text.len())..], start == 0, mark, &mut ids)?;
        Ok(ids)
    }

    fn encode_piece(
        &self,
        piece: &str,
        first: bool,
        mark: Option<char>,
        ids: &mut Vec<u32>,
    ) -> Outcome<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let Some(mark) = mark.filter(|mark| piece.contains(*mark)) else {
            return self.encode_text(piece, first, ids);
        };
        let mut text = String::with_capacity(piece.len());
        let mut broken = Vec::new(); // where marks were
        for part in piece.split(mark) {
            text.push_str(part);
            broken.push(text.len());
        }
        broken.pop();
        // A word that a mark broke would be one token again: it is encoded in two.
        let mut start = 0;
        for at in self.word_breaks(&text, &broken) {
            self.encode_text(&text[start..at], first && start == 0, ids)?;
            start = at;
        }
        self.encode_text(&text[start..], first && start == 0, ids)
    }

    /// Those of `broken` (ascending) that lie inside a word, ascending and once each.
    fn word_breaks(&self, text: &str, broken: &[usize]) -> Vec<usize> {
        let mut breaks = Vec::new();
        for found in self.word_matcher.find_overlapping_iter(text) {
            let first = broken.partition_point(|at| *at <= found.start());
            breaks.extend(broken[first..].iter().take_while(|at| **at < found.end()).take(1));
        }
        breaks.sort_unstable();
        breaks.dedup();
        breaks
    }

    fn encode_text(&self, piece: &str, first: bool, ids: &mut Vec<u32>) -> Outcome<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let variant = match &self.continuation {
            Some(continuation) if !first => continuation,
            _ => &self.without_specials,
        };
        let encoding = variant.encode_fast(piece, false).or_invalid("encode")?;
        self.refuse_controls(encoding.get_ids().iter().copied())?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The last line of defence: a vocabulary that spells a control token out of ordinary text.
    fn refuse_controls(&self, ids: impl Iterator<Item = u32>) -> Outcome<()> {
        for id in ids {
            if self.special.get(id as usize) == Some(&true) && Some(id) != self.unk {
                let name = self.with_specials.id_to_token(id).unwrap_or_default();
                return Err(Failure::invalid(format!(
                    "the text spells the control token {name}, which this tokenizer can not write as text"
                )));
            }
        }
        Ok(())
    }
}

/// The regular expressions look behind a run of white space by backtracking, a million steps at
/// most, and past that give up without a word: the rest of the text would not be split.
fn refuse_long_blank(text: &str) -> Outcome<()> {
    const LONGEST: usize = 500_000;
    let mut run = 0;
    for c in text.chars() {
        run = if c.is_whitespace() { run + 1 } else { 0 };
        if run > LONGEST {
            let message = format!("text: more than {LONGEST} white-space characters in a row");
            return Err(Failure::invalid(message));
        }
    }
    Ok(())
}

/// The variant for pieces that do not open a text: a Metaspace that puts a space before the first
/// piece only must put none.
fn continuation_of(variant: &Variant) -> Outcome<Option<Variant>> {
    let Some(pre_tokenizer) = variant.get_pre_tokenizer() else { return Ok(None) };
    let mut json = serde_json::to_value(pre_tokenizer).or_invalid("pre_tokenizer")?;
    if !first_becomes_never(&mut json) {
        return Ok(None);
    }
    let changed: PreTokenizerWrapper = serde_json::from_value(json).or_invalid("pre_tokenizer")?;
    let mut continuation = variant.clone();
    continuation.with_pre_tokenizer(Some(changed));
    Ok(Some(continuation))
}

fn first_becomes_never(json: &mut Value) -> bool {
    if let Some(parts) = json.get_mut("pretokenizers").and_then(Value::as_array_mut) {
        return parts.iter_mut().fold(false, |any, part| first_becomes_never(part) || any);
    }
    let first = json["type"] == "Metaspace" && json["prepend_scheme"] == "first";
    if first {
        json["prepend_scheme"] = Value::from("never");
    }
    first
}
