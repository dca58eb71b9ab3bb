#include "server/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <variant>

#include "server/options_yaml.h"
#include "server/version.h"

namespace pelton {
namespace {

using Field = std::variant<bool Options::*, int Options::*, int64_t Options::*, double Options::*,
                           std::string Options::*>;
struct Setting {
  ConfigEntry entry;
  Field field;
};

constexpr double kMaxBytes = 1e15;
constexpr auto kInt = ConfigType::kInt;
constexpr auto kText = ConfigType::kString;
constexpr auto kChoice = ConfigType::kChoice;

// clang-format off
constexpr std::array kSettings = {
    Setting{{"device", kChoice, "auto", "Model", "Where the model runs; auto takes the GPU where this build and this machine have one.", 0, 0, "auto|cpu|cuda"}, &Options::device},
    Setting{{"load-format", kChoice, "auto", "Model", "auto reads the weights; dummy makes random ones from a config.json alone.", 0, 0, "auto|dummy"}, &Options::load_format},
    Setting{{"dtype", kChoice, "auto", "Model", "Format of dummy weights; auto is what config.json says. On a GPU bf16 or f16 is the type of the activations too; auto is bf16.", 0, 0, "auto|f32|f16|bf16"}, &Options::dtype},
    Setting{{"quantization", kChoice, "none", "Model", "Block format of dummy weights.", 0, 0, "none|q8_0|q4_0|q4_1|q5_0|q5_1|q4_k|q5_k|q6_k|fp8|int4"}, &Options::quantization},
    Setting{{"served-model-name", kText, "", "Model", "Name in requests and answers; by default the file's or folder's name."}, &Options::served_model_name},
    Setting{{"max-model-len", kInt, "0", "Model", "Tokens of prompt and answer together; 0: what the model was made for.", 0, 1 << 24}, &Options::max_model_len},
    Setting{{"threads", kInt, "0", "Model", "CPU compute threads; 0: one for each core this process may use.", 0, 1024}, &Options::threads},
    Setting{{"cpu-pin", ConfigType::kBool, "false", "Model", "Keep each CPU compute thread on a core of its own: for a machine that does nothing else."}, &Options::cpu_pin},
    Setting{{"cpu-isa", kChoice, "auto", "Model", "Instruction set of the CPU kernels; auto takes the best this machine has.", 0, 0, "auto|scalar|avx2|avx512|neon"}, &Options::cpu_isa},
    Setting{{"activations", kChoice, "int8", "Model", "How the CPU's matrix products see activations: int8 rounds them to 8 bits over weights in block formats and to bf16 over BF16 weights; f32 is the reference.", 0, 0, "int8|f32"}, &Options::activations},
    Setting{{"batch-invariant", ConfigType::kBool, "true", "Model", "On a GPU: an answer depends on its request alone, to the bit. Without it kernels are tuned to the number of tokens in a step, and the choices measured at the first start are kept in $XDG_CACHE_HOME/pelton (else ~/.cache/pelton)."}, &Options::batch_invariant},
    Setting{{"enforce-eager", ConfigType::kBool, "false", "Model", "On a GPU: decode steps are launched kernel by kernel, not recorded at start and replayed."}, &Options::enforce_eager},

    Setting{{"http", kText, "127.0.0.1:8000", "Listening", "Address of the HTTP gateway; port 0 takes a free one."}, &Options::http},
    Setting{{"grpc", kText, "127.0.0.1:8001", "Listening", "Address of the gRPC services; port 0 takes a free one."}, &Options::grpc},
    Setting{{"host", kText, "", "Listening", "Host of both listeners; --http and --grpc win."}, &Options::host},
    Setting{{"port", kInt, "0", "Listening", "Port of HTTP; --http wins.", 0, 65535}, &Options::port},
    Setting{{"api-key", kText, "", "Listening", "Clients must send it as a bearer token; needed for any address but loopback. Better set in the environment or the file than on a command line that others can list."}, &Options::api_key},
    Setting{{"cors-allowed-origins", ConfigType::kList, "", "Listening", "Origins, comma-separated, whose pages may call the HTTP API; empty: none."}, &Options::cors_allowed_origins},
    Setting{{"http-threads", kInt, "1", "Listening", "Threads that serve HTTP connections.", 1, 64}, &Options::http_threads},
    Setting{{"grpc-threads", kInt, "1", "Listening", "Threads that write gRPC streams.", 1, 64}, &Options::grpc_threads},
    Setting{{"tokenizer-threads", kInt, "1", "Listening", "Threads that tokenise and render chat templates.", 1, 64}, &Options::tokenizer_threads},
    Setting{{"keep-alive-timeout-s", kInt, "75", "Listening", "Seconds that an idle HTTP connection is kept.", 1, 3600}, &Options::keep_alive_timeout_s},

    Setting{{"max-num-seqs", kInt, "64", "Batching", "Sequences that run in one step.", 1, 4096}, &Options::max_num_seqs},
    Setting{{"max-num-batched-tokens", kInt, "0", "Batching", "Token budget of one step, 16 or more; long prompts are computed in chunks of it. 0: measured at start, so that a full step takes at most 100 ms.", 0, 1 << 20}, &Options::max_num_batched_tokens},
    Setting{{"max-waiting-requests", kInt, "1024", "Batching", "Requests that may queue; beyond, clients get 429 or RESOURCE_EXHAUSTED.", 1, 1 << 20}, &Options::max_waiting_requests},
    Setting{{"enable-prefix-caching", ConfigType::kBool, "true", "Batching", "Reuse the KV of prompts that begin alike."}, &Options::enable_prefix_caching},
    Setting{{"async-scheduling", kChoice, "auto", "Batching", "Enqueue a step before the results of the one before it are there, so that the device never waits; the answers are the same. auto: where the device computes by itself.", 0, 0, "auto|on|off"}, &Options::async_scheduling},
    Setting{{"seed", kInt, "0", "Batching", "Seed of dummy weights. Requests carry their own seeds.", 0, 9e15}, &Options::seed},

    Setting{{"gpu-memory-utilization", ConfigType::kFloat, "0.9", "Memory", "Share of the GPU's memory that is taken at start; what weights and activations leave is the KV cache.", 0.05, 1}, &Options::gpu_memory_utilization},
    Setting{{"kv-cache-memory-bytes", ConfigType::kBytes, "0", "Memory", "Size of the KV cache (4GiB, 512MiB); 0: on CPU enough for 8 x max-model-len, at most a quarter of free memory, on a GPU all that is left.", 0, kMaxBytes}, &Options::kv_cache_memory_bytes},
    Setting{{"kv-cache-dtype", kChoice, "auto", "Memory", "Number format of the KV cache; auto is f32 on CPU, the activations' type on a GPU. int8 and fp8 (GPU): with a scale a token and head.", 0, 0, "auto|f32|f16|bf16|int8|fp8"}, &Options::kv_cache_dtype},
    Setting{{"block-size", kInt, "32", "Memory", "Tokens in a KV block.", 1, 256}, &Options::block_size},

    Setting{{"log-level", kChoice, "info", "Operation", "Least level that is logged.", 0, 0, "debug|info|warning|error"}, &Options::log_level},
    Setting{{"log-format", kChoice, "text", "Operation", "One line an event, for people or for machines.", 0, 0, "text|json"}, &Options::log_format},
    Setting{{"drain-timeout-s", ConfigType::kFloat, "30", "Operation", "On SIGTERM or Ctrl-C, how long running requests may take to end.", 0, 86400}, &Options::drain_timeout_s},
    Setting{{"print-examples", ConfigType::kBool, "false", "Operation", "Print a curl and a grpcurl line to paste once ready."}, &Options::print_examples},
};
// clang-format on

constexpr auto kEntries = [] {
  std::array<ConfigEntry, kSettings.size()> entries{};
  for (size_t i = 0; i < kSettings.size(); ++i) entries[i] = kSettings[i].entry;
  return entries;
}();

void store(Options& options, const Field& field, const ConfigValue& value) {
  std::visit(
      [&](auto member) {
        using Member = std::remove_reference_t<decltype(options.*member)>;
        if constexpr (std::is_same_v<Member, int>) {
          options.*member = static_cast<int>(std::get<int64_t>(value));
        } else {
          options.*member = std::get<Member>(value);
        }
      },
      field);
}

// Where a value came from, for messages: "--port", "PELTON_PORT", "pelton.yaml: port".
struct SourcedText {
  std::string text;
  std::string source;
};
using Texts = std::map<std::string, SourcedText, std::less<>>;

Status read_environment(std::span<const std::string> environment, Texts& texts,
                        std::vector<std::string>& warnings) {
  for (const std::string& line : environment) {
    const size_t equals = line.find('=');
    if (!line.starts_with("PELTON_") || equals == line.npos) continue;
    const std::string name = line.substr(0, equals);
    const std::string value = line.substr(equals + 1);
    const auto found = std::find_if(kEntries.begin(), kEntries.end(), [&](const ConfigEntry& e) {
      return config_env_name(e.name) == name;
    });
    if (found == kEntries.end()) {
      // Not an error: the tools have names of their own, and Kubernetes sets PELTON_SERVICE_HOST
      // and its kin for a service that is called pelton.
      if (name != "PELTON_MODEL_CACHE" && name != "PELTON_CONFIG") {
        warnings.push_back(fmt::format("{} is not a setting of this server", name));
      }
      continue;
    }
    if (value.starts_with("tcp://") || value.starts_with("udp://")) {
      warnings.push_back(fmt::format("{} is set by Kubernetes for a service and not used", name));
      continue;
    }
    texts[std::string(found->name)] = {value, name};
  }
  return absl::OkStatus();
}

Status read_yaml(const std::string& path, Texts& texts, std::string& model) {
  PELTON_ASSIGN_OR_RETURN(const auto pairs, read_flat_yaml(path));
  for (const auto& [key, value] : pairs) {
    if (key == "model") {
      model = value;
      continue;
    }
    const ConfigEntry* entry = find_config_entry(kEntries, key);
    if (entry == nullptr) {
      const auto nearest = nearest_config_name(kEntries, key);
      return absl::InvalidArgumentError(fmt::format(
          "{}: unknown key '{}'{}", path, key,
          nearest ? fmt::format(" (did you mean '{}'?)", config_yaml_key(*nearest)) : ""));
    }
    texts[std::string(entry->name)] = {value, fmt::format("{}: {}", path, key)};
  }
  return absl::OkStatus();
}

struct CommandLine {
  std::string model;
  std::string config;
  bool print_config_docs = false;
  Texts texts;
};

std::string option_help(const ConfigEntry& entry) {
  std::string help(entry.help);
  if (!entry.choices.empty()) help += fmt::format(" [{}]", entry.choices);
  if (!entry.default_value.empty()) help += fmt::format(" Default: {}.", entry.default_value);
  return help;
}

void add_flags(CLI::App& app, CommandLine& line, std::vector<std::string>& values,
               std::array<bool, kSettings.size()>& flags) {
  app.add_option("MODEL", line.model, "A Hugging Face folder or a .gguf file");
  app.add_option("--config", line.config, "YAML file of settings (PELTON_CONFIG)")
      ->group("Operation");
  app.add_flag("--print-config-docs", line.print_config_docs)->group("");
  values.resize(kEntries.size());
  for (size_t i = 0; i < kEntries.size(); ++i) {
    const ConfigEntry& entry = kEntries[i];
    const std::string name(entry.name);
    CLI::Option* option =
        entry.type == ConfigType::kBool
            ? app.add_flag("--" + name + ",!--no-" + name, flags[i], option_help(entry))
            : app.add_option("--" + name, values[i], option_help(entry));
    option->group(std::string(entry.section));
  }
}

std::string config_docs_page() {
  return "# Configuration\n\n"
         "`pelton-server MODEL [flags]`. A setting is given as a flag, as an environment name, or "
         "as a key in the YAML file that `--config FILE` (or `PELTON_CONFIG`) names, in this order "
         "of strength; `model` is a key too. Unknown flags and keys are errors that name the "
         "nearest one. This page is made by `pelton-server --print-config-docs`.\n" +
         config_table_markdown(kEntries);
}

std::string unknown_argument_hint(const std::string& argument) {
  if (!argument.starts_with("--")) return fmt::format("unexpected argument '{}'", argument);
  const std::string name = argument.substr(2, argument.find('=') - 2);
  const auto nearest = nearest_config_name(kEntries, name);
  return fmt::format("unknown flag '--{}'{}", name,
                     nearest ? fmt::format(" (did you mean '--{}'?)", *nearest) : "");
}

// Gives the text to print where the command line asks for nothing more (--help, --version).
StatusOr<std::string> read_command_line(std::span<const char* const> arguments, CommandLine& line) {
  CLI::App app("Serves a language model over gRPC and the OpenAI HTTP API.", "pelton-server");
  app.set_version_flag("--version", std::string("pelton-server ") + version());
  app.allow_extras();
  std::vector<std::string> values;
  std::array<bool, kSettings.size()> flags{};
  add_flags(app, line, values, flags);
  try {
    app.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const CLI::CallForHelp&) {
    return app.help();
  } catch (const CLI::CallForVersion&) {
    return std::string("pelton-server ") + version() + "\n";
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (!app.remaining().empty()) {
    return absl::InvalidArgumentError(unknown_argument_hint(app.remaining().front()));
  }
  for (size_t i = 0; i < kEntries.size(); ++i) {
    const std::string name(kEntries[i].name);
    if (app.get_option("--" + name)->count() == 0) continue;
    const bool is_flag = kEntries[i].type == ConfigType::kBool;
    line.texts[name] = {is_flag ? (flags[i] ? "true" : "false") : values[i], "--" + name};
  }
  return std::string();
}

// 127.0.0.0/8 as a literal: a name that begins so may be anywhere.
bool is_loopback_ipv4(std::string_view host) {
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos;
}

// --host and --port fill what --http and --grpc leave open.
Status apply_host_and_port(const Texts& texts, Options& options) {
  const auto given = [&](const char* name) { return texts.count(name) != 0; };
  const auto with = [](const std::string& address, const std::string& host, int port) {
    const size_t colon = address.rfind(':');
    const std::string bracketed =
        host.find(':') != host.npos && !host.starts_with('[') ? "[" + host + "]" : host;
    return fmt::format("{}:{}", bracketed.empty() ? address.substr(0, colon) : bracketed,
                       port >= 0 ? std::to_string(port) : address.substr(colon + 1));
  };
  if (!given("http")) {
    options.http = with(options.http, options.host, given("port") ? options.port : -1);
  }
  if (!given("grpc")) options.grpc = with(options.grpc, options.host, -1);
  return absl::OkStatus();
}

Status check_addresses(const Options& options) {
  for (const auto& [flag, text] :
       {std::pair<const char*, const std::string&>("http", options.http), {"grpc", options.grpc}}) {
    PELTON_ASSIGN_OR_RETURN(const ListenAddress address, parse_listen_address(flag, text));
    if (!address.loopback && options.api_key.empty()) {
      return absl::InvalidArgumentError(fmt::format(
          "--{} {}: others can reach this address, so an API key is needed (--api-key or "
          "PELTON_API_KEY), or a loopback address",
          flag, text));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::span<const ConfigEntry> server_config_table() {
  return kEntries;
}

std::string ListenAddress::text() const {
  return host.find(':') == host.npos ? fmt::format("{}:{}", host, port)
                                     : fmt::format("[{}]:{}", host, port);
}

StatusOr<ListenAddress> parse_listen_address(std::string_view flag, std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        fmt::format("--{}: '{}' is not an address: {}", flag, text, why));
  };
  const size_t colon = text.rfind(':');
  if (colon == text.npos || colon == 0) return bad("expected host:port");
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  ListenAddress address;
  const auto [end, error] =
      std::from_chars(port_text.data(), port_text.data() + port_text.size(), address.port);
  if (error != std::errc() || end != port_text.data() + port_text.size()) {
    return bad("the port is a number from 0 to 65535");
  }
  if (host.starts_with('[')) {
    if (!host.ends_with(']')) return bad("expected [host]:port");
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != host.npos) {
    return bad("an IPv6 host stands in brackets");
  }
  if (host.empty() || host.size() > 253) return bad("expected host:port");
  address.host = std::string(host);
  address.loopback = host == "localhost" || host == "::1" || is_loopback_ipv4(host);
  return address;
}

StatusOr<ParsedCommand> parse_options(std::span<const char* const> arguments,
                                      std::span<const std::string> environment) {
  ParsedCommand parsed;
  CommandLine line;
  PELTON_ASSIGN_OR_RETURN(parsed.output, read_command_line(arguments, line));
  if (line.print_config_docs) parsed.output = config_docs_page();
  if (!parsed.output.empty()) {
    parsed.exit_now = true;
    return parsed;
  }

  Options& options = parsed.options;
  std::string config = line.config;
  for (const std::string& variable : environment) {
    if (config.empty() && variable.starts_with("PELTON_CONFIG=")) config = variable.substr(14);
  }
  // Weakest source first: each later one overwrites.
  Texts texts;
  if (!config.empty()) PELTON_RETURN_IF_ERROR(read_yaml(config, texts, options.model));
  PELTON_RETURN_IF_ERROR(read_environment(environment, texts, options.warnings));
  for (auto& [name, sourced] : line.texts) texts[name] = sourced;
  if (!line.model.empty()) options.model = line.model;

  for (const Setting& setting : kSettings) {
    const auto found = texts.find(setting.entry.name);
    if (found == texts.end()) {
      if (setting.entry.default_value.empty()) continue;
      PELTON_ASSIGN_OR_RETURN(const ConfigValue value,
                              parse_config_value(setting.entry, setting.entry.default_value));
      store(options, setting.field, value);
      continue;
    }
    auto value = parse_config_value(setting.entry, found->second.text);
    if (!value.ok()) {
      // The message begins with the flag.
      const bool by_flag = found->second.source == "--" + std::string(setting.entry.name);
      return by_flag ? value.status() : annotate(value.status(), found->second.source);
    }
    store(options, setting.field, *value);
  }
  if (options.model.empty()) {
    return absl::InvalidArgumentError(
        "no MODEL: give a Hugging Face folder or a .gguf file (see --help)");
  }
  if (options.max_num_batched_tokens != 0 && options.max_num_batched_tokens < 16) {
    return absl::InvalidArgumentError("--max-num-batched-tokens: 0, or 16 and more");
  }
  if (options.max_num_batched_tokens != 0 && options.block_size > options.max_num_batched_tokens) {
    return absl::InvalidArgumentError("--block-size is larger than --max-num-batched-tokens");
  }
  PELTON_RETURN_IF_ERROR(apply_host_and_port(texts, options));
  PELTON_RETURN_IF_ERROR(check_addresses(options));
  return parsed;
}

}  // namespace pelton
