// A narrow C interface to libllama for the golden scripts (llama_ref.py compiles and loads it).
// One thread; a Model owns its context, made anew for each run so that the KV cache starts empty.
#include <cstdint>
#include <cstring>
#include <memory>

#include "llama.h"

namespace {
struct Model {
  llama_model* model = nullptr;
};
void silent(ggml_log_level, const char*, void*) {}
}  // namespace

extern "C" {

void* shim_open(const char* path, bool vocab_only) {
  static const bool once = [] {
    llama_log_set(silent, nullptr);
    llama_backend_init();
    return true;
  }();
  (void)once;
  llama_model_params params = llama_model_default_params();
  params.vocab_only = vocab_only;
  params.use_extra_bufts = false;  // no repacking: the plain kernels
  llama_model* model = llama_model_load_from_file(path, params);
  return model ? new Model{model} : nullptr;
}

void shim_close(void* handle) {
  auto* m = static_cast<Model*>(handle);
  llama_model_free(m->model);
  delete m;
}

int shim_tokenize(void* handle, const char* text, int length, int32_t* out, int capacity,
                  bool add_special, bool parse_special) {
  const llama_vocab* vocab = llama_model_get_vocab(static_cast<Model*>(handle)->model);
  return llama_tokenize(vocab, text, length, out, capacity, add_special, parse_special);
}

int shim_detokenize(void* handle, const int32_t* ids, int count, char* out, int capacity,
                    bool remove_special, bool unparse_special) {
  const llama_vocab* vocab = llama_model_get_vocab(static_cast<Model*>(handle)->model);
  return llama_detokenize(vocab, ids, count, out, capacity, remove_special, unparse_special);
}

int shim_n_vocab(void* handle) {
  return llama_vocab_n_tokens(llama_model_get_vocab(static_cast<Model*>(handle)->model));
}

// out: [count, n_vocab] logits at every position; `f32_kv` keeps keys and values in float32 and
// leaves flash attention off. `chunk`: tokens a call. Returns 0, or the failing call's code.
int shim_logits(void* handle, const int32_t* ids, int count, float* out, bool f32_kv, int chunk) {
  auto* m = static_cast<Model*>(handle);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = count + 8;
  params.n_batch = params.n_ubatch = chunk;
  params.n_threads = params.n_threads_batch = 2;
  params.no_perf = true;
  params.swa_full = true;
  if (f32_kv) {
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = GGML_TYPE_F32;
  }
  llama_context* context = llama_init_from_model(m->model, params);
  if (!context) return -100;
  const int n_vocab = shim_n_vocab(handle);
  int rc = 0;
  for (int start = 0; start < count && rc == 0; start += chunk) {
    const int n = count - start < chunk ? count - start : chunk;
    llama_batch batch = llama_batch_init(n, 0, 1);
    batch.n_tokens = n;
    for (int i = 0; i < n; ++i) {
      batch.token[i] = ids[start + i];
      batch.pos[i] = start + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    rc = llama_decode(context, batch);
    for (int i = 0; i < n && rc == 0; ++i) {
      std::memcpy(out + static_cast<int64_t>(start + i) * n_vocab, llama_get_logits_ith(context, i),
                  sizeof(float) * n_vocab);
    }
    llama_batch_free(batch);
  }
  llama_free(context);
  return rc;
}
}
