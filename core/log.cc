#include "core/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cmath>

namespace pelton {
namespace {

// Whether lines are JSON; set once by init_logging, beside spdlog's own registry.
std::atomic<bool> json_lines{false};

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
  out += '"';
}

// key=value; quoted only where a reader could not split the line again otherwise.
void append_text_string(std::string& out, std::string_view text) {
  const bool plain = !text.empty() && text.find_first_of(" \"=\\\n\r\t") == text.npos;
  if (plain) {
    out += text;
  } else {
    append_json_string(out, text);
  }
}

void append_value(std::string& out, bool json, const LogField& field) {
  if (const auto* text = std::get_if<std::string_view>(&field.value)) {
    json ? append_json_string(out, *text) : append_text_string(out, *text);
  } else if (const auto* integer = std::get_if<int64_t>(&field.value)) {
    fmt::format_to(std::back_inserter(out), "{}", *integer);
  } else if (const auto* number = std::get_if<double>(&field.value)) {
    // JSON knows no NaN.
    std::isfinite(*number) ? fmt::format_to(std::back_inserter(out), "{:.6g}", *number)
                           : fmt::format_to(std::back_inserter(out), "null");
  } else {
    out += std::get<bool>(field.value) ? "true" : "false";
  }
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

std::string format_log_line(bool json, std::string_view message,
                            std::initializer_list<LogField> fields) {
  std::string out;
  if (json) {
    out += "\"message\":";
    append_json_string(out, message);
  } else {
    out += message;
  }
  for (const LogField& field : fields) {
    if (json) {
      out += ',';
      append_json_string(out, field.key);
      out += ':';
    } else {
      out += ' ';
      out += field.key;
      out += '=';
    }
    append_value(out, json, field);
  }
  return out;
}

void init_logging(const LogOptions& options) {
  json_lines = options.json;
  auto logger = std::make_shared<spdlog::logger>(
      "pelton", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_level(spdlog_level(options.level));
  logger->flush_on(spdlog::level::info);
  if (options.json) {
    logger->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})");
  } else {
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%L%$ %v");
  }
  spdlog::set_default_logger(std::move(logger));
}

void log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (logger == nullptr || !logger->should_log(spdlog_level(level))) return;
  logger->log(spdlog_level(level), "{}", format_log_line(json_lines, message, fields));
}

}  // namespace pelton
