// Everything a user can set, once it was read and bounded: flags win over environment names over
// the YAML file over defaults. Immutable after parse_options(). The table in options.cc is the one
// source of --help, YAML keys, environment names and docs/configuration.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/config_table.h"
#include "core/status.h"

namespace pelton {

struct Options {
  std::string model;  // a Hugging Face folder or a .gguf file

  std::string device;
  std::string load_format;
  std::string dtype;
  std::string quantization;
  std::string served_model_name;  // empty: the file's or folder's name
  int max_model_len = 0;          // 0: the model's own
  bool cpu_pin = false;
  int threads = 0;  // 0: the cores this process may use
  std::string cpu_isa;
  std::string activations;
  bool batch_invariant = true;
  bool enforce_eager = false;  // no recorded steps on a GPU

  std::string http;  // "host:port"
  std::string grpc;
  std::string host;  // of both listeners
  int port = 0;      // of HTTP
  std::string api_key;
  std::string cors_allowed_origins;  // comma-separated; empty: CORS is off
  int http_threads = 0;
  int grpc_threads = 0;
  int tokenizer_threads = 0;
  int keep_alive_timeout_s = 0;

  int max_num_seqs = 0;
  int max_num_batched_tokens = 0;  // 0: measured
  int max_waiting_requests = 0;
  bool enable_prefix_caching = true;
  std::string async_scheduling;
  int64_t seed = 0;

  double gpu_memory_utilization = 0.9;
  int64_t kv_cache_memory_bytes = 0;  // 0: chosen from the model and free memory
  std::string kv_cache_dtype;
  int block_size = 0;

  std::string log_level;
  std::string log_format;
  double drain_timeout_s = 0;
  bool print_examples = false;

  std::vector<std::string> warnings;  // what was read and not used
};

// What the command line asked for instead of a server.
struct ParsedCommand {
  Options options;
  bool exit_now = false;  // --help, --version, --print-config-docs: `output` is to be printed
  std::string output;
};

// `environment`: "NAME=value" as in environ. Errors name the setting, its source and the nearest
// known one; they never repeat the API key.
StatusOr<ParsedCommand> parse_options(std::span<const char* const> arguments,
                                      std::span<const std::string> environment);

std::span<const ConfigEntry> server_config_table();

// "127.0.0.1:8000", "[::1]:0", "localhost:8000"
struct ListenAddress {
  std::string host;
  uint16_t port = 0;  // 0: any free one
  bool loopback = false;

  std::string text() const;
};
StatusOr<ListenAddress> parse_listen_address(std::string_view flag, std::string_view text);

}  // namespace pelton
