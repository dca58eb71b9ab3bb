//! A tokenizer from tokenizer.json, with what tokenizer_config.json adds to it.

use serde_json::Value;
use tokenizers::AddedToken;

use crate::decoding::DecodeRule;
use crate::error::{Failure, OrInvalid, Outcome};
use crate::tokenizer::{Parts, RoleIds, TokenTable, Tokenizer, Variant, IN_VOCAB, SPECIAL};

impl Tokenizer {
    pub fn from_json(json: &str, config: &str, max_vocab: usize) -> Outcome<Self> {
        let mut base: Variant = serde_json::from_str(json).or_invalid("tokenizer.json")?;
        base.with_padding(None);
        base.with_truncation(None).or_invalid("tokenizer.json")?;
        let config: Value = if config.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(config).or_invalid("tokenizer_config.json")?
        };
        add_config_tokens(&mut base, &config)?;
        let rule = DecodeRule::from_decoder(base.get_decoder())?;
        let mut roles = RoleIds::default();
        for (key, role) in [
            ("bos_token", &mut roles.bos),
            ("eos_token", &mut roles.eos),
            ("unk_token", &mut roles.unk),
            ("pad_token", &mut roles.pad),
        ] {
            *role = token_content(&config[key]).and_then(|t| base.token_to_id(t));
        }
        roles.unk = roles.unk.or_else(|| base.get_model().unk_id());
        let table = table_of(&base, &rule, max_vocab)?;
        let end_ids = roles.eos.into_iter().collect();
        Self::from_parts(Parts { base, rule, roles, end_ids, table, prefix: None, suffix: None })
    }
}

fn token_content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// What transformers adds from tokenizer_config.json: added tokens that tokenizer.json lacks, and
/// the tokens with a role, which are special.
fn add_config_tokens(base: &mut Variant, config: &Value) -> Outcome<()> {
    let mut declared: Vec<(u32, AddedToken)> = Vec::new();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let id = id.parse::<u32>().or_invalid("tokenizer_config.json: added_tokens_decoder")?;
        let content = token_content(token)
            .ok_or_else(|| Failure::invalid("tokenizer_config.json: an added token has no content"))?;
        let flag = |name: &str, default| token[name].as_bool().unwrap_or(default);
        let special = flag("special", false);
        let added = AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special));
        declared.push((id, added));
    }
    declared.sort_by_key(|(id, _)| *id);
    base.add_tokens(declared.iter().map(|(_, t)| t.clone()))
        .or_invalid("tokenizer_config.json: added_tokens_decoder")?;
    for (id, token) in &declared {
        if !token.content.is_empty() && base.token_to_id(&token.content) != Some(*id) {
            return Err(Failure::invalid(format!(
                "tokenizer_config.json: added token {} can not have id {id}",
                token.content
            )));
        }
    }
    let roles = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"]
        .iter()
        .map(|key| &config[*key])
        .chain(config["additional_special_tokens"].as_array().into_iter().flatten());
    let known = base.get_added_tokens_decoder();
    let special = roles
        .filter_map(token_content)
        .filter(|content| {
            // Only what the vocabulary has: a role does not enlarge it.
            base.token_to_id(content)
                .is_some_and(|id| known.get(&id).is_none_or(|token| !token.special))
        })
        .map(|content| AddedToken::from(content, true))
        .collect::<Vec<_>>();
    base.add_tokens(special).or_invalid("tokenizer_config.json")?;
    Ok(())
}

fn table_of(base: &Variant, rule: &DecodeRule, max_vocab: usize) -> Outcome<TokenTable> {
    let mut tokens = base.get_vocab(true).into_iter().collect::<Vec<_>>();
    tokens.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let size = tokens.last().map_or(0, |(_, id)| *id as usize + 1);
    if size == 0 || size > max_vocab {
        return Err(Failure::invalid(format!(
            "tokenizer.json: {size} token ids; 1 to {max_vocab} are supported"
        )));
    }
    let added = base.get_added_tokens_decoder();
    let mut table = TokenTable::default();
    for (token, id) in tokens {
        while table.flags.len() < id as usize {
            table.push("", b"", 0);
        }
        if table.flags.len() > id as usize {
            continue; // two spellings of one id: the first stands
        }
        match added.get(&id) {
            Some(token) => {
                let special = if token.special { SPECIAL } else { 0 };
                let bytes = rule.added_token_bytes(&token.content);
                table.push(&token.content, &bytes, IN_VOCAB | special);
            }
            None => table.push(&token, &rule.token_bytes(&token), IN_VOCAB),
        }
    }
    Ok(table)
}
