//! Chat templates: Jinja as transformers runs it, bounded, over inputs given as JSON.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::{Serde, Value as JinjaValue};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value};

use crate::bounded::{self, Limits, Stopped};
use crate::error::{Code, Failure, OrInvalid, Outcome};
use crate::marks::{FreeMarks, Marker};
use crate::python;
use crate::template_inputs::{cut_at, mark_end, object, Inputs, Strftime, Values};
use crate::tokenizer::Tokenizer;

const NAME: &str = "chat";

/// Beyond what any honest template holds for the inputs that are taken.
const MAX_HELD_BYTES: usize = 256 << 20;
const STACK_BYTES: usize = 8 << 20;
/// Of one render; beside what is fixed above.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TemplateLimits {
    fuel: u64,
    max_milliseconds: u64,
    max_output_bytes: usize,
}

pub struct Template {
    parts: Arc<Parts>,
    refused: AtomicBool, // it went over the bounds once
}

struct Parts {
    default: Environment<'static>,
    tool_use: Option<Environment<'static>>,
    sources: Vec<String>,
    marker: Marker,   // for what the application writes: system and assistant messages, tools
    stranger: Marker, // for what may come from anybody: breaks the template's own words up too
    special_tokens: Map<String, Value>, // bos_token and the like, as template variables
    limits: TemplateLimits,
}

pub struct Rendered {
    pub text: String,
    pub mark: Option<char>,
}

/// raise_exception's message, told apart from the engine's own errors.
#[derive(Debug)]
struct Raised(String);
impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Raised {}

impl Template {
    /// `source`, or what `config` (tokenizer_config.json) has where that is empty.
    pub fn new(
        tokenizer: &Tokenizer,
        source: &str,
        config: &str,
        limits: TemplateLimits,
    ) -> Outcome<Self> {
        let config = Value::Object(object(config, "tokenizer_config.json")?);
        let (default, tool_use) = choose(source, &config)?;
        let special_tokens = special_tokens(tokenizer, &config);
        let mut control = tokenizer.control_tokens();
        let marker = Marker::new(&control)?;
        let sources = [Some(default.as_str()), tool_use.as_deref()];
        let named = |word: &&String| sources.iter().flatten().any(|s| s.contains(word.as_str()));
        control.extend(tokenizer.words().iter().filter(named).cloned());
        let parts = Parts {
            default: environment(&default, limits.fuel)?,
            tool_use: tool_use.as_deref().map(|t| environment(t, limits.fuel)).transpose()?,
            sources: std::iter::once(default).chain(tool_use).collect(),
            marker,
            stranger: Marker::new(&control)?,
            special_tokens,
            limits,
        };
        Ok(Template { parts: Arc::new(parts), refused: AtomicBool::new(false) })
    }

    pub fn render(&self, inputs: Inputs) -> Outcome<Rendered> {
        inputs.refuse_too_many()?;
        // A thread that was stopped keeps what it holds: no second one.
        if self.refused.load(Ordering::Relaxed) {
            let refusal = "the chat template went over its bounds before and is not run again";
            return Err(Failure::new(Code::ResourceExhausted, refusal));
        }
        let parts = self.parts.clone();
        let time = Duration::from_millis(parts.limits.max_milliseconds);
        let limits = Limits { bytes: MAX_HELD_BYTES, time, stack_bytes: STACK_BYTES };
        let stopped = match bounded::run(limits, move || parts.render(&inputs)) {
            Ok(outcome) => return outcome,
            Err(stopped) => stopped,
        };
        if stopped != Stopped::NoThread {
            self.refused.store(true, Ordering::Relaxed);
        }
        let message = match stopped {
            Stopped::Memory => format!("the chat template holds over {MAX_HELD_BYTES} bytes"),
            Stopped::Time => "the chat template takes too long".to_string(),
            Stopped::NoThread => "there is no thread for the chat template".to_string(),
        };
        Err(Failure::new(Code::ResourceExhausted, message))
    }
}

impl Parts {
    fn render(&self, inputs: &Inputs) -> Outcome<Rendered> {
        let Values { mut messages, mut tools, mut documents, mut extra } = inputs.values()?;

        let mut free = FreeMarks::new();
        self.sources.iter().for_each(|source| free.see_text(source));
        for value in [&messages, &tools, &documents, &extra] {
            free.see_value(value);
        }
        let mut mark = None;
        if inputs.mark_control_tokens {
            let chosen = free.take()?;
            for message in messages.as_array_mut().into_iter().flatten() {
                let own = matches!(message["role"].as_str(), Some("system" | "developer" | "assistant"));
                let marker = if own { &self.marker } else { &self.stranger };
                marker.mark_value(message, chosen);
            }
            self.stranger.mark_value(&mut documents, chosen);
            for value in [&mut tools, &mut extra] {
                self.marker.mark_value(value, chosen);
            }
            mark = Some(chosen);
        }
        let mut end_mark = None;
        if inputs.continue_final_message {
            let chosen = free.take()?;
            mark_end(&mut messages, chosen)?;
            end_mark = Some(chosen);
        }

        let mut context = self.special_tokens.clone();
        if let Value::Object(extra) = extra {
            context.extend(extra);
        }
        let environment = match &self.tool_use {
            Some(tool_use) if !tools.is_null() => tool_use,
            _ => &self.default,
        };
        context.insert("messages".into(), messages);
        context.insert("tools".into(), tools);
        context.insert("documents".into(), documents);
        context.insert("add_generation_prompt".into(), inputs.add_generation_prompt.into());
        let text = self.run(environment, context, inputs.strftime.clone())?;
        let text = match end_mark {
            Some(end_mark) => cut_at(text, end_mark)?,
            None => text,
        };
        Ok(Rendered { text, mark })
    }

    fn run(
        &self,
        environment: &Environment,
        context: Map<String, Value>,
        strftime: Strftime,
    ) -> Outcome<String> {
        let mut variables: BTreeMap<String, JinjaValue> =
            context.into_iter().map(|(k, v)| (k, JinjaValue::from(Serde(&v)))).collect();
        let strftime = JinjaValue::from_function(move |format: String| strftime(&format));
        variables.insert("strftime_now".into(), strftime);
        let context = JinjaValue::from(variables);
        let template = environment.get_template(NAME).or_invalid("chat template")?;
        let mut out = Bounded { bytes: Vec::new(), limit: self.limits.max_output_bytes, over: false };
        let result = template.render_captured_to(context, &mut out).map(|_| ());
        if out.over {
            return Err(Failure::new(
                Code::ResourceExhausted,
                format!("the chat template's output is over {} bytes", self.limits.max_output_bytes),
            ));
        }
        result.map_err(|e| failure_of(&e))?;
        String::from_utf8(out.bytes).or_invalid("chat template")
    }
}

fn environment(source: &str, fuel: u64) -> Outcome<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.or_invalid("syntax")?);
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(64);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", python::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, "raise_exception");
        Err(error.with_source(Raised(message)))
    });
    environment
        .add_template_owned(NAME, without_generation_tags(source))
        .map_err(|e| Failure::invalid(format!("chat template: {}", describe(&e))))?;
    Ok(environment)
}

/// The default template, and the one that transformers prefers where tools are given.
fn choose(source: &str, config: &Value) -> Outcome<(String, Option<String>)> {
    if !source.is_empty() {
        return Ok((source.to_string(), None));
    }
    let named = match &config["chat_template"] {
        Value::String(source) => return Ok((source.clone(), None)),
        Value::Array(named) => named,
        Value::Null => return Err(Failure::new(Code::NotFound, "the model has no chat template")),
        _ => return Err(Failure::invalid("chat_template: not a string or a list")),
    };
    let find = |name: &str| {
        let entry = named.iter().find(|entry| entry["name"] == name)?;
        entry["template"].as_str().map(str::to_string)
    };
    let tool_use = find("tool_use");
    let default = find("default").or_else(|| tool_use.clone()).ok_or_else(|| {
        Failure::invalid("chat_template: none of the named templates is called \"default\"")
    })?;
    Ok((default, tool_use))
}

fn special_tokens(tokenizer: &Tokenizer, config: &Value) -> Map<String, Value> {
    let mut map = Map::new();
    let roles = tokenizer.roles;
    let ids = [("bos", roles.bos), ("eos", roles.eos), ("unk", roles.unk), ("pad", roles.pad)];
    for (name, id) in ids {
        if let Some(text) = id.and_then(|id| tokenizer.token_text(id)) {
            map.insert(format!("{name}_token"), text.into());
        }
    }
    for (key, value) in config.as_object().into_iter().flatten() {
        let text = value.as_str().or_else(|| value["content"].as_str());
        if let Some(text) = text.filter(|_| key.ends_with("_token")) {
            map.insert(key.clone(), text.into());
        }
    }
    map
}

/// Memory for the output is bounded while it is written.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            self.over = true;
            return Err(io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure_of(error: &Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(at) = cause {
        if let Some(raised) = at.downcast_ref::<Raised>() {
            return Failure::new(Code::TemplateRaised, raised.0.clone());
        }
        cause = at.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Failure::new(Code::ResourceExhausted, "the chat template takes too long");
    }
    Failure::new(Code::TemplateRaised, format!("chat template: {}", describe(error)))
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(at) = cause {
        text.push_str(&format!(": {at}"));
        cause = at.source();
    }
    text
}

/// `{% generation %}` marks what an assistant wrote, for training; it prints what it encloses.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let word_at = tag.len() - tag.trim_start_matches(['-', '+']).trim_start().len();
        let body = &tag[word_at..];
        let word = &body[..body.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(body.len())];
        let replacement = match word {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => word,
        };
        out.push_str(&tag[..word_at]);
        out.push_str(replacement);
        rest = &body[word.len()..];
    }
    out.push_str(rest);
    out
}
