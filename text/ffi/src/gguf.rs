//! Tokenizers rebuilt from the fields of a GGUF file.

use ahash::{AHashMap, AHashSet};
use tokenizers::models::bpe::BPE;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::AddedToken;

use crate::decoding::{byte_token, DecodeRule};
use crate::error::{Failure, OrInvalid, Outcome};
use crate::model::SharedModel;
use crate::pre_tokenizers;
use crate::tokenizer::{
    long_token, Parts, RoleIds, TokenTable, Tokenizer, Variant, IN_VOCAB, MAX_TOKEN_BYTES, SPECIAL,
};

const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// Spellings that end a turn in one model family or another, whatever the file says of their type.
const END_NAMES: &[&str] = &[
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>",
    "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>",
];

pub struct Fields<'a> {
    pub model: &'a str,
    pub pre: &'a str,
    pub tokens: Vec<&'a str>,
    pub scores: &'a [f32],
    pub types: &'a [i32],
    pub merges: Vec<&'a str>,
    pub roles: RoleIds,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
}

impl Fields<'_> {
    fn check(&self, max_vocab: usize) -> Outcome<()> {
        let n = self.tokens.len();
        if let Some(long) = self.tokens.iter().find(|token| token.len() > MAX_TOKEN_BYTES) {
            return Err(long_token(long, MAX_TOKEN_BYTES));
        }
        if n == 0 || n > max_vocab {
            return Err(Failure::invalid(format!(
                "tokenizer.ggml.tokens: {n} tokens; 1 to {max_vocab} are supported"
            )));
        }
        for (name, len) in [("token_type", self.types.len()), ("scores", self.scores.len())] {
            if len != 0 && len != n {
                return Err(Failure::invalid(format!(
                    "tokenizer.ggml.{name}: {len} entries for {n} tokens"
                )));
            }
        }
        let roles = [
            ("bos", self.roles.bos),
            ("eos", self.roles.eos),
            ("unknown", self.roles.unk),
            ("padding", self.roles.pad),
            ("eot", self.eot),
            ("eom", self.eom),
        ];
        for (name, id) in roles {
            if id.is_some_and(|id| id as usize >= n) {
                return Err(Failure::invalid(format!(
                    "tokenizer.ggml.{name}_token_id: not within the {n} tokens"
                )));
            }
        }
        Ok(())
    }

    /// Control tokens can not be merged into existence, and unknown is one of them.
    fn kind(&self, id: usize) -> i32 {
        let kind = self.types.get(id).copied().unwrap_or(1);
        let ends = self.eot == Some(id as u32) || self.eom == Some(id as u32);
        if kind != CONTROL && (ends || END_NAMES.contains(&self.tokens[id])) {
            return CONTROL;
        }
        kind
    }

    fn end_ids(&self) -> Vec<u32> {
        let named = [self.roles.eos, self.eot, self.eom];
        let mut ids: Vec<u32> = named.into_iter().flatten().collect();
        for (id, token) in self.tokens.iter().enumerate() {
            if END_NAMES.contains(token) && !ids.contains(&(id as u32)) {
                ids.push(id as u32);
            }
        }
        // Where <|return|> and <|call|> end an answer, <|end|> only ends one of its messages.
        let has = |name: &str| self.tokens.contains(&name);
        if has("<|return|>") && has("<|call|>") {
            ids.retain(|id| self.tokens[*id as usize] != "<|end|>");
        }
        ids
    }
}

pub fn tokenizer_from(fields: &Fields, max_vocab: usize) -> Outcome<Tokenizer> {
    fields.check(max_vocab)?;
    match fields.model {
        "gpt2" => byte_level_bpe(fields),
        "llama" => sentencepiece_bpe(fields),
        other => Err(Failure::unimplemented(format!(
            "tokenizer.ggml.model \"{other}\" is not supported (gpt2 and llama are)"
        ))),
    }
}

fn byte_level_bpe(fields: &Fields) -> Outcome<Tokenizer> {
    let choice = pre_tokenizers::by_name(fields.pre)?;
    let mut vocab = AHashMap::new();
    let mut controls = AHashSet::new();
    for (id, token) in fields.tokens.iter().enumerate() {
        if matches!(fields.kind(id), CONTROL | UNKNOWN) {
            controls.insert(*token);
        } else {
            vocab.entry(token.to_string()).or_insert(id as u32);
        }
    }
    if fields.merges.is_empty() {
        return Err(Failure::invalid("tokenizer.ggml.merges: absent or empty"));
    }
    let mut merges = Vec::with_capacity(fields.merges.len());
    for merge in &fields.merges {
        // A token may begin with a space, never hold one further on.
        let skip = merge.chars().next().map_or(0, char::len_utf8);
        let (left, right) = merge[skip..]
            .find(' ')
            .map(|at| (&merge[..skip + at], &merge[skip + at + 1..]))
            .filter(|(_, right)| !right.is_empty())
            .ok_or_else(|| {
                Failure::invalid(format!("tokenizer.ggml.merges: \"{merge}\" is not two tokens"))
            })?;
        let forms_control = controls.contains(left)
            || controls.contains(right)
            || controls.contains([left, right].concat().as_str());
        if !forms_control {
            merges.push((left.to_string(), right.to_string()));
        }
    }
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(choice.ignore_merges)
        .build()
        .or_invalid("tokenizer.ggml.merges")?;
    let add_bos = fields.add_bos.unwrap_or(choice.add_bos);
    let mut base = variant(fields, bpe, choice.normalizer)?;
    base.with_pre_tokenizer(Some(choice.pre_tokenizer));
    finish(fields, base, DecodeRule::byte_level(), add_bos)
}

fn sentencepiece_bpe(fields: &Fields) -> Outcome<Tokenizer> {
    if fields.scores.is_empty() {
        return Err(Failure::invalid("tokenizer.ggml.scores: absent"));
    }
    if fields.scores.iter().any(|score| score.is_nan()) {
        return Err(Failure::invalid("tokenizer.ggml.scores: not a number"));
    }
    let mut vocab = AHashMap::new();
    let mut has_bytes = false;
    for (id, token) in fields.tokens.iter().enumerate() {
        let kind = fields.kind(id);
        has_bytes |= kind == BYTE;
        if kind != CONTROL {
            vocab.entry(token.to_string()).or_insert(id as u32);
        }
    }
    let merges = merges_by_score(fields);
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .byte_fallback(has_bytes)
        .fuse_unk(true);
    let unk = fields.roles.unk.map(|id| fields.tokens[id as usize]).filter(|_| {
        fields.roles.unk.is_some_and(|id| fields.kind(id as usize) != CONTROL)
    });
    if let Some(unk) = unk {
        builder = builder.unk_token(unk.to_string());
    }
    let bpe = builder.build().or_invalid("tokenizer.ggml.tokens")?;
    let prefix_space = fields.add_space_prefix.unwrap_or(true);
    let replace = Replace::new(" ", "▁").or_invalid("normalizer")?;
    let mut steps = vec![NormalizerWrapper::Replace(replace)];
    if prefix_space {
        steps.insert(0, NormalizerWrapper::Prepend(Prepend::new("▁".to_string())));
    }
    let normalizer = NormalizerWrapper::Sequence(Sequence::new(steps));
    let base = variant(fields, bpe, Some(normalizer))?;
    finish(fields, base, DecodeRule::sentencepiece(prefix_space), fields.add_bos.unwrap_or(true))
}

/// SentencePiece merges whichever adjacent pair gives the piece of the highest score. As ranked
/// pairs: every way to split every piece in two, best score first.
fn merges_by_score(fields: &Fields) -> Vec<(String, String)> {
    let mut ids: AHashMap<&str, usize> = AHashMap::with_capacity(fields.tokens.len());
    for (id, token) in fields.tokens.iter().enumerate() {
        if !matches!(fields.kind(id), CONTROL | UNKNOWN) {
            ids.entry(*token).or_insert(id);
        }
    }
    // (score, characters left, characters right, piece, left, right)
    let mut found: Vec<(f32, u32, u32, usize, usize, usize)> = Vec::new();
    for (id, token) in fields.tokens.iter().enumerate() {
        if matches!(fields.kind(id), CONTROL | UNKNOWN | BYTE) {
            continue;
        }
        let length = token.chars().count() as u32;
        for (left_chars, (at, _)) in token.char_indices().enumerate().skip(1) {
            if let (Some(&l), Some(&r)) = (ids.get(&token[..at]), ids.get(&token[at..])) {
                let left_chars = left_chars as u32;
                found.push((fields.scores[id], left_chars, length - left_chars, id, l, r));
            }
        }
    }
    // Ties as transformers' converter has them: longer left part first, then longer right part,
    // then the order of the vocabulary.
    found.sort_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then(b.1.cmp(&a.1))
            .then(b.2.cmp(&a.2))
            .then((a.3, a.4, a.5).cmp(&(b.3, b.4, b.5)))
    });
    found
        .iter()
        .map(|f| (fields.tokens[f.4].to_string(), fields.tokens[f.5].to_string()))
        .collect()
}

fn variant(fields: &Fields, bpe: BPE, norm: Option<NormalizerWrapper>) -> Outcome<Variant> {
    let mut pinned = AHashMap::new();
    let mut added = Vec::new();
    for (id, token) in fields.tokens.iter().enumerate() {
        let kind = fields.kind(id);
        let special = matches!(kind, CONTROL | UNKNOWN);
        if token.is_empty() || !(special || kind == USER_DEFINED) {
            continue;
        }
        if pinned.insert(token.to_string(), id as u32).is_none() {
            added.push(AddedToken::from(token.to_string(), special).normalized(false));
        }
    }
    let mut base = Variant::new(SharedModel::new(ModelWrapper::BPE(bpe), pinned));
    base.with_normalizer(norm).or_invalid("normalizer")?;
    base.add_tokens(added).or_invalid("tokenizer.ggml.tokens")?;
    Ok(base)
}

fn finish(fields: &Fields, base: Variant, rule: DecodeRule, add_bos: bool) -> Outcome<Tokenizer> {
    let mut table = TokenTable::default();
    for (id, token) in fields.tokens.iter().enumerate() {
        let kind = fields.kind(id);
        let bytes = match kind {
            CONTROL | UNKNOWN | USER_DEFINED => rule.added_token_bytes(token),
            BYTE => match byte_token(token) {
                Some(byte) => vec![byte],
                None => {
                    return Err(Failure::invalid(format!(
                        "tokenizer.ggml.tokens: \"{token}\" is not a byte token"
                    )))
                }
            },
            _ => rule.token_bytes(token),
        };
        let special = if matches!(kind, CONTROL | UNKNOWN) { SPECIAL } else { 0 };
        table.push(token, &bytes, IN_VOCAB | special);
    }
    let roles = fields.roles;
    let wanted = |add: bool, id: Option<u32>| if add { id } else { None };
    let prefix = wanted(add_bos, roles.bos);
    let suffix = wanted(fields.add_eos.unwrap_or(false), roles.eos);
    let end_ids = fields.end_ids();
    Tokenizer::from_parts(Parts { base, rule, roles, end_ids, table, prefix, suffix })
}
