//! How tokens become bytes: read once from the tokenizer's decoder, applied to every token at load.

use serde_json::Value;
use tokenizers::DecoderWrapper;

use crate::error::{Failure, OrInvalid, Outcome};

/// Values of pelton::LeadingSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LeadingSpace {
    Keep = 0,
    StripOne = 1,
    StripRun = 2,
}

#[derive(Clone, Debug)]
pub struct DecodeRule {
    pub byte_level: bool,
    pub byte_fallback: bool,
    pub space_mark: Option<char>, // shown as a space
    pub leading_space: LeadingSpace,
}

impl DecodeRule {
    fn empty() -> Self {
        DecodeRule {
            byte_level: false,
            byte_fallback: false,
            space_mark: None,
            leading_space: LeadingSpace::Keep,
        }
    }

    pub fn byte_level() -> Self {
        DecodeRule { byte_level: true, ..Self::empty() }
    }

    pub fn sentencepiece(strip: bool) -> Self {
        DecodeRule {
            byte_level: false,
            byte_fallback: true,
            space_mark: Some('▁'),
            leading_space: if strip { LeadingSpace::StripOne } else { LeadingSpace::Keep },
        }
    }

    pub fn from_decoder(decoder: Option<&DecoderWrapper>) -> Outcome<Self> {
        let decoder = decoder
            .ok_or_else(|| Failure::unimplemented("tokenizer.json: decoder is not set"))?;
        let json = serde_json::to_value(decoder).or_invalid("decoder")?;
        let mut rule = Self::empty();
        rule.read(&json)?;
        Ok(rule)
    }

    fn read(&mut self, json: &Value) -> Outcome<()> {
        let kind = json["type"].as_str().unwrap_or("");
        match kind {
            "Sequence" => {
                for part in json["decoders"].as_array().into_iter().flatten() {
                    self.read(part)?;
                }
            }
            "ByteLevel" => self.byte_level = true,
            "ByteFallback" => self.byte_fallback = true,
            "Fuse" => {}
            "Replace" => {
                let pattern = json["pattern"]["String"].as_str().unwrap_or("");
                let mut chars = pattern.chars();
                match (chars.next(), chars.next(), json["content"].as_str()) {
                    (Some(mark), None, Some(" ")) => self.space_mark = Some(mark),
                    _ => return Err(unsupported("Replace", json)),
                }
            }
            "Strip" => match (json["content"].as_str(), &json["start"], &json["stop"]) {
                (_, start, stop) if start == 0 && stop == 0 => {}
                (Some(" "), start, stop) if start == 1 && stop == 0 => {
                    self.leading_space = LeadingSpace::StripOne;
                }
                _ => return Err(unsupported("Strip", json)),
            },
            "Metaspace" => {
                self.space_mark = json["replacement"].as_str().and_then(|s| s.chars().next());
                if json["prepend_scheme"] != "never" {
                    self.leading_space = LeadingSpace::StripRun;
                }
            }
            _ => return Err(unsupported(kind, json)),
        }
        Ok(())
    }

    /// The bytes that a token of the vocabulary stands for.
    pub fn token_bytes(&self, token: &str) -> Vec<u8> {
        if self.byte_level {
            let bytes: Option<Vec<u8>> = token.chars().map(char_to_byte).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        if self.byte_fallback {
            if let Some(byte) = byte_token(token) {
                return vec![byte];
            }
        }
        self.added_token_bytes(token)
    }

    /// Added tokens are spelled literally, whatever the alphabet of the others.
    pub fn added_token_bytes(&self, token: &str) -> Vec<u8> {
        match self.space_mark {
            Some(mark) => token.replace(mark, " ").into_bytes(),
            None => token.as_bytes().to_vec(),
        }
    }
}

fn unsupported(kind: &str, json: &Value) -> Failure {
    Failure::unimplemented(format!("tokenizer.json: decoder {kind} is not supported: {json}"))
}

/// "<0x0A>" -> 10.
pub fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

/// GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and on.
pub fn char_to_byte(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),           // 0x00..=0x20
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),    // 0x7F..=0xA0
        0x143 => Some(0xAD),
        _ => None,
    }
}
