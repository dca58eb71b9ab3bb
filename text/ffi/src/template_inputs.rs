//! What a chat template is given, from JSON, as transformers hands it over.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Code, Failure, OrInvalid, Outcome};

/// Of all inputs together; a conversation at the front ends' bounds has a third.
const MAX_JSON_VALUES: usize = 1 << 18;

pub struct Inputs {
    pub messages: String,
    pub tools: String,
    pub documents: String,
    pub extra: String,
    pub add_generation_prompt: bool,
    pub continue_final_message: bool,
    pub parse_tool_arguments: bool,
    pub mark_control_tokens: bool,
    pub strftime: Strftime,
}

/// Formats the time of the request: (context, format) to text.
pub type Strftime = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// All of a request's inputs as values; `messages` is an array of objects.
pub struct Values {
    pub messages: Value,
    pub tools: Value,
    pub documents: Value,
    pub extra: Value,
}

impl Inputs {
    pub fn refuse_too_many(&self) -> Outcome<()> {
        let values = [&self.messages, &self.tools, &self.documents, &self.extra];
        if values.iter().map(|json| count_values(json)).sum::<usize>() > MAX_JSON_VALUES {
            return Err(Failure::new(
                Code::InvalidArgument,
                format!("messages: over {MAX_JSON_VALUES} JSON values with all that goes with them"),
            ));
        }
        Ok(())
    }

    pub fn values(&self) -> Outcome<Values> {
        let mut messages = parse(&self.messages, "messages")?;
        let list = messages
            .as_array_mut()
            .filter(|list| list.iter().all(Value::is_object))
            .ok_or_else(|| Failure::invalid("messages: not an array of objects"))?;
        list.iter_mut().for_each(as_transformers_has_it);
        if self.parse_tool_arguments {
            list.iter_mut().for_each(parse_tool_arguments);
        }
        let tools = optional_array(&self.tools, "tools")?;
        let documents = optional_array(&self.documents, "documents")?;
        let extra = Value::Object(object(&self.extra, "template arguments")?);
        Ok(Values { messages, tools, documents, extra })
    }
}

/// About how many values a JSON text holds: as many as it has openings and separators.
fn count_values(json: &str) -> usize {
    let mut count = 0;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            in_string = byte == b'"';
            count += usize::from(matches!(byte, b'[' | b'{' | b',' | b':'));
        }
    }
    count
}

fn parse(json: &str, what: &str) -> Outcome<Value> {
    serde_json::from_str(json).or_invalid(what)
}

/// None in the template where it is absent, as transformers passes it.
fn optional_array(json: &str, what: &str) -> Outcome<Value> {
    if json.is_empty() {
        return Ok(Value::Null);
    }
    let value = parse(json, what)?;
    if value.is_array() || value.is_null() {
        return Ok(value);
    }
    Err(Failure::invalid(format!("{what}: not an array")))
}

pub fn object(json: &str, what: &str) -> Outcome<Map<String, Value>> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    match parse(json, what)? {
        Value::Object(map) => Ok(map),
        _ => Err(Failure::invalid(format!("{what}: not an object"))),
    }
}

/// transformers leaves out a message's null fields, and gives its reasoning under two names.
fn as_transformers_has_it(message: &mut Value) {
    let Some(map) = message.as_object_mut() else { return };
    map.retain(|_, value| !value.is_null());
    if let Some(reasoning) = map.get("reasoning_content").cloned() {
        map.entry("thinking").or_insert(reasoning);
    }
}

fn parse_tool_arguments(message: &mut Value) {
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        let function = if call.get("function").is_some() { call.get_mut("function") } else { Some(call) };
        let Some(arguments) = function.and_then(|f| f.get_mut("arguments")) else { continue };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(parsed) = parsed.filter(Value::is_object) {
            *arguments = parsed;
        }
    }
}

/// Appends `mark` and a space to the last message's text; where it comes out, the text ends.
pub fn mark_end(messages: &mut Value, mark: char) -> Outcome<()> {
    let content = messages
        .as_array_mut()
        .and_then(|list| list.last_mut())
        .and_then(|message| message.get_mut("content"));
    let text = match content {
        Some(Value::String(text)) => Some(text),
        Some(Value::Array(parts)) => {
            parts.iter_mut().rev().find_map(|part| match part.get_mut("text") {
                Some(Value::String(text)) => Some(text),
                _ => None,
            })
        }
        _ => None,
    };
    let text = text.ok_or_else(|| {
        Failure::invalid("continue_final_message: the last message has no text to continue")
    })?;
    text.push(mark);
    text.push(' ');
    Ok(())
}

pub fn cut_at(mut text: String, mark: char) -> Outcome<String> {
    let at = text.rfind(mark).ok_or_else(|| {
        Failure::invalid("continue_final_message: the chat template does not show the last message")
    })?;
    let kept_space = text[at + mark.len_utf8()..].starts_with(' ');
    text.truncate(at);
    if !kept_space {
        // The template trims contents: so must the one that is continued be.
        text.truncate(text.trim_end().len());
    }
    Ok(text)
}
