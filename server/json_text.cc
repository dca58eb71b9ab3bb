#include "server/json_text.h"

#include <boost/json/basic_parser_impl.hpp>

namespace pelton {
namespace {

constexpr size_t kMaxDepth = 64;

// Takes a parser's events and keeps only what kind of value stands at the top.
struct KindHandler {
  static constexpr size_t max_object_size = -1;
  static constexpr size_t max_array_size = -1;
  static constexpr size_t max_key_size = -1;
  static constexpr size_t max_string_size = -1;
  using Error = boost::json::error_code;
  using Text = boost::json::string_view;

  int depth = 0;
  bool object_at_top = false;

  bool on_document_begin(Error&) { return true; }
  bool on_document_end(Error&) { return true; }
  bool on_object_begin(Error&) {
    if (depth++ == 0) object_at_top = true;
    return true;
  }
  bool on_object_end(size_t, Error&) { return --depth, true; }
  bool on_array_begin(Error&) { return ++depth, true; }
  bool on_array_end(size_t, Error&) { return --depth, true; }
  bool on_key_part(Text, size_t, Error&) { return true; }
  bool on_key(Text, size_t, Error&) { return true; }
  bool on_string_part(Text, size_t, Error&) { return true; }
  bool on_string(Text, size_t, Error&) { return true; }
  bool on_number_part(Text, Error&) { return true; }
  bool on_int64(int64_t, Text, Error&) { return true; }
  bool on_uint64(uint64_t, Text, Error&) { return true; }
  bool on_double(double, Text, Error&) { return true; }
  bool on_bool(bool, Error&) { return true; }
  bool on_null(Error&) { return true; }
  bool on_comment_part(Text, Error&) { return true; }
  bool on_comment(Text, Error&) { return true; }
};

}  // namespace

Status check_json_object(std::string_view field, std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::json::basic_parser<KindHandler> parser(options);
  boost::json::error_code error;
  const size_t read = parser.write_some(false, text.data(), text.size(), error);
  // White space may follow the object, and nothing else.
  const bool whole = text.find_first_not_of(" \t\r\n", read) == std::string_view::npos;
  if (error || !parser.done() || !whole || !parser.handler().object_at_top) {
    return invalid_field(field, "is not a JSON object of at most 64 levels");
  }
  return absl::OkStatus();
}

}  // namespace pelton
