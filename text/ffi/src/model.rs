//! One vocabulary in memory for all variants of a tokenizer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::AHashMap;
use serde::{Deserialize, Deserializer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::{Model, Result, Token};

/// A shared model. `pinned` names ids of tokens that the model itself must never produce (control
/// tokens of a GGUF, which lists them in the same vocabulary).
#[derive(Clone)]
pub struct SharedModel {
    inner: Arc<ModelWrapper>,
    pinned: Arc<AHashMap<String, u32>>,
}

impl SharedModel {
    pub fn new(mut inner: ModelWrapper, pinned: AHashMap<String, u32>) -> Self {
        if let ModelWrapper::BPE(bpe) = &mut inner {
            bpe.dropout = None; // a training aid; encoding must be a function
        }
        SharedModel { inner: Arc::new(inner), pinned: Arc::new(pinned) }
    }

    /// The token that stands for what the vocabulary can not spell.
    pub fn unk_id(&self) -> Option<u32> {
        match &*self.inner {
            ModelWrapper::BPE(m) => m.unk_token.as_ref().and_then(|t| self.token_to_id(t)),
            ModelWrapper::WordLevel(m) => self.token_to_id(&m.unk_token),
            ModelWrapper::WordPiece(m) => self.token_to_id(&m.unk_token),
            ModelWrapper::Unigram(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for SharedModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Self::new(ModelWrapper::deserialize(deserializer)?, AHashMap::new()))
    }
}

impl Model for SharedModel {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        self.inner.tokenize(sequence)
    }
    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.pinned.get(token).copied().or_else(|| self.inner.token_to_id(token))
    }
    fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
    fn get_vocab(&self) -> HashMap<String, u32> {
        self.inner.get_vocab()
    }
    fn get_vocab_size(&self) -> usize {
        self.inner.get_vocab_size()
    }
    fn save(&self, folder: &Path, prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        self.inner.save(folder, prefix)
    }
    fn get_trainer(&self) -> TrainerWrapper {
        self.inner.get_trainer()
    }
}
