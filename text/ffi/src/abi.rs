//! Raw pointers end here. Safety: the caller (text/*.cc) passes live pointers of the stated lengths,
//! and frees each result once with the function that belongs to it.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Once};

use crate::error::{Failure, OrInvalid, Outcome};
use crate::gguf;
use crate::template::{Template, TemplateLimits};
use crate::template_inputs::Inputs;
use crate::tokenizer::{RoleIds, Tokenizer};

/// Borrowed bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

/// A vector handed to the caller; freed by pelton_buffer_free.
#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

/// Token ids handed to the caller; freed by pelton_ids_free.
#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
    capacity: usize,
}

#[repr(C)]
pub struct GgufFields {
    model: Slice,
    pre: Slice,
    tokens: *const Slice,
    num_tokens: usize,
    scores: *const f32,
    num_scores: usize,
    types: *const i32,
    num_types: usize,
    merges: *const Slice,
    num_merges: usize,
    bos: i64, // -1: absent, here and below
    eos: i64,
    unk: i64,
    pad: i64,
    eot: i64,
    eom: i64,
    add_bos: i32,
    add_eos: i32,
    add_space_prefix: i32,
}

/// Views into the tokenizer, valid as long as it is.
#[repr(C)]
pub struct Vocabulary {
    size: usize,
    texts: *const u8,
    text_ends: *const u32,
    bytes: *const u8,
    byte_ends: *const u32,
    flags: *const u8,
    end_ids: *const u32,
    num_end_ids: usize,
    bos: i64,
    eos: i64,
    unk: i64,
    pad: i64,
    leading_space: u8,
}

#[repr(C)]
pub struct RenderInputs {
    messages: Slice,
    tools: Slice,
    documents: Slice,
    extra: Slice,
    add_generation_prompt: u8,
    continue_final_message: u8,
    parse_tool_arguments: u8,
    mark_control_tokens: u8,
    strftime: extern "C" fn(i64, u8, *const u8, usize, *mut u8, usize) -> usize,
    now_unix_seconds: i64,
    now_is_set: u8,
}

impl Slice {
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }
    unsafe fn text<'a>(self, what: &str) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes()).or_invalid(what)
    }
}

unsafe fn array<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

unsafe fn texts<'a>(data: *const Slice, size: usize, what: &str) -> Outcome<Vec<&'a str>> {
    array(data, size).iter().map(|slice| slice.text(what)).collect()
}

fn buffer(bytes: Vec<u8>) -> Buffer {
    let mut bytes = std::mem::ManuallyDrop::new(bytes);
    Buffer { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() }
}

fn ids(ids: Vec<u32>) -> Ids {
    let mut ids = std::mem::ManuallyDrop::new(ids);
    Ids { data: ids.as_mut_ptr(), size: ids.len(), capacity: ids.capacity() }
}

/// Runs `body`; on failure or panic writes the text to `error` and returns the code.
unsafe fn guard(error: *mut Buffer, body: impl FnOnce() -> Outcome<()>) -> i32 {
    static QUIET: Once = Once::new();
    // A caught panic is reported by its status, not on stderr as well.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let result = catch_unwind(AssertUnwindSafe(body));
    match result.unwrap_or_else(|payload| Err(Failure::from_panic(payload))) {
        Ok(()) => 0,
        Err(failure) => {
            *error = buffer(failure.message.into_bytes());
            failure.code as i32
        }
    }
}

fn optional_id(id: i64, what: &str) -> Outcome<Option<u32>> {
    if id == -1 {
        return Ok(None);
    }
    u32::try_from(id).map(Some).or_invalid(what)
}

fn optional_flag(flag: i32) -> Option<bool> {
    (flag >= 0).then_some(flag != 0)
}

#[no_mangle]
pub unsafe extern "C" fn pelton_buffer_free(b: Buffer) {
    if !b.data.is_null() {
        drop(Vec::from_raw_parts(b.data, b.size, b.capacity));
    }
}

#[no_mangle]
pub unsafe extern "C" fn pelton_ids_free(i: Ids) {
    if !i.data.is_null() {
        drop(Vec::from_raw_parts(i.data, i.size, i.capacity));
    }
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_from_json(
    json: Slice,
    config: Slice,
    max_vocab: usize,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let json = json.text("tokenizer.json")?;
        let config = config.text("tokenizer_config.json")?;
        let tokenizer = Tokenizer::from_json(json, config, max_vocab)?;
        *out = Box::into_raw(Box::new(tokenizer));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_from_gguf(
    fields: *const GgufFields,
    max_vocab: usize,
    out: *mut *mut Tokenizer,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let f = &*fields;
        let fields = gguf::Fields {
            model: f.model.text("tokenizer.ggml.model")?,
            pre: f.pre.text("tokenizer.ggml.pre")?,
            tokens: texts(f.tokens, f.num_tokens, "tokenizer.ggml.tokens")?,
            scores: array(f.scores, f.num_scores),
            types: array(f.types, f.num_types),
            merges: texts(f.merges, f.num_merges, "tokenizer.ggml.merges")?,
            roles: RoleIds {
                bos: optional_id(f.bos, "tokenizer.ggml.bos_token_id")?,
                eos: optional_id(f.eos, "tokenizer.ggml.eos_token_id")?,
                unk: optional_id(f.unk, "tokenizer.ggml.unknown_token_id")?,
                pad: optional_id(f.pad, "tokenizer.ggml.padding_token_id")?,
            },
            eot: optional_id(f.eot, "tokenizer.ggml.eot_token_id")?,
            eom: optional_id(f.eom, "tokenizer.ggml.eom_token_id")?,
            add_bos: optional_flag(f.add_bos),
            add_eos: optional_flag(f.add_eos),
            add_space_prefix: optional_flag(f.add_space_prefix),
        };
        let tokenizer = gguf::tokenizer_from(&fields, max_vocab)?;
        *out = Box::into_raw(Box::new(tokenizer));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_vocabulary(tokenizer: *const Tokenizer) -> Vocabulary {
    let t = &*tokenizer;
    let id = |id: Option<u32>| id.map_or(-1, i64::from);
    Vocabulary {
        size: t.table.flags.len(),
        texts: t.table.texts.as_ptr(),
        text_ends: t.table.text_ends.as_ptr(),
        bytes: t.table.bytes.as_ptr(),
        byte_ends: t.table.byte_ends.as_ptr(),
        flags: t.table.flags.as_ptr(),
        end_ids: t.end_ids.as_ptr(),
        num_end_ids: t.end_ids.len(),
        bos: id(t.roles.bos),
        eos: id(t.roles.eos),
        unk: id(t.roles.unk),
        pad: id(t.roles.pad),
        leading_space: t.rule.leading_space as u8,
    }
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_token_to_id(
    tokenizer: *const Tokenizer,
    token: Slice,
) -> i64 {
    let find = || Some(i64::from((*tokenizer).token_to_id(token.text("token").ok()?)?));
    catch_unwind(AssertUnwindSafe(find)).ok().flatten().unwrap_or(-1)
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: Slice,
    add_special: u8,
    as_text: u8,
    out: *mut Ids,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        *out = ids((*tokenizer).encode(text.text("text")?, add_special != 0, as_text != 0)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pelton_tokenizer_encode_marked(
    tokenizer: *const Tokenizer,
    text: Slice,
    mark: u32,
    out: *mut Ids,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let mark = char::from_u32(mark).filter(|mark| *mark != '\0');
        *out = ids((*tokenizer).encode_marked(text.text("text")?, mark)?);
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pelton_template_new(
    tokenizer: *const Tokenizer,
    source: Slice,
    config: Slice,
    limits: *const TemplateLimits,
    out: *mut *mut Template,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let source = source.text("chat template")?;
        let config = config.text("tokenizer_config.json")?;
        let template = Template::new(&*tokenizer, source, config, *limits)?;
        *out = Box::into_raw(Box::new(template));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn pelton_template_free(template: *mut Template) {
    if !template.is_null() {
        drop(Box::from_raw(template));
    }
}

struct Clock {
    format: extern "C" fn(i64, u8, *const u8, usize, *mut u8, usize) -> usize,
    now_unix_seconds: i64,
    now_is_set: u8,
}

impl Clock {
    fn now(&self, format: &str) -> String {
        let mut text = vec![0u8; 1024];
        let (at, size) = (text.as_mut_ptr(), text.len());
        let written = (self.format)(self.now_unix_seconds, self.now_is_set, format.as_ptr(), format.len(), at, size);
        text.truncate(written);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[no_mangle]
pub unsafe extern "C" fn pelton_template_render(
    template: *const Template,
    inputs: *const RenderInputs,
    out: *mut Buffer,
    mark: *mut u32,
    error: *mut Buffer,
) -> i32 {
    guard(error, || {
        let i = &*inputs;
        let clock = Clock {
            format: i.strftime,
            now_unix_seconds: i.now_unix_seconds,
            now_is_set: i.now_is_set,
        };
        let inputs = Inputs {
            messages: i.messages.text("messages")?.to_string(),
            tools: i.tools.text("tools")?.to_string(),
            documents: i.documents.text("documents")?.to_string(),
            extra: i.extra.text("template arguments")?.to_string(),
            add_generation_prompt: i.add_generation_prompt != 0,
            continue_final_message: i.continue_final_message != 0,
            parse_tool_arguments: i.parse_tool_arguments != 0,
            mark_control_tokens: i.mark_control_tokens != 0,
            strftime: Arc::new(move |format: &str| clock.now(format)),
        };
        let rendered = (*template).render(inputs)?;
        *mark = rendered.mark.map_or(0, |mark| mark as u32);
        *out = buffer(rendered.text.into_bytes());
        Ok(())
    })
}
