//! What every call of the C ABI returns: a status code and a text.

use std::any::Any;
use std::fmt::Display;

/// The values are those of absl::StatusCode; the last is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    /// The template refused its input, in its own words: INVALID_ARGUMENT with a reason.
    TemplateRaised = 100,
}

#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }
    pub fn from_panic(payload: Box<dyn Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|s| s.to_string())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic".to_string());
        Self::invalid(format!("the text library gave up on this input: {text}"))
    }
}

/// `result.or_invalid("what")`: an error of a library, with what we were doing.
pub trait OrInvalid<T> {
    fn or_invalid(self, what: &str) -> Outcome<T>;
}

impl<T, E: Display> OrInvalid<T> for Result<T, E> {
    fn or_invalid(self, what: &str) -> Outcome<T> {
        self.map_err(|e| Failure::invalid(format!("{what}: {e}")))
    }
}
