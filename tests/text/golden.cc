#include "tests/text/golden.h"

#include <boost/json/src.hpp>  // compiled here, in this one file
#include <fstream>
#include <iterator>

#include "model/formats/gguf.h"
#include "tests/support/catch.h"
#include "tests/support/model_cache.h"

namespace pelton::text_test {

namespace {

template <typename T>
T value_or_fail(StatusOr<T> result) {
  INFO(result.status().ToString());
  REQUIRE(result.ok());
  return *std::move(result);
}

}  // namespace

std::string golden_path(const std::string& name) {
  return std::string(PELTON_SOURCE_DIR) + "/tests/goldens/text/" + name;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  INFO(path);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

boost::json::value golden_json(const std::string& name) {
  boost::json::parse_options options;
  options.max_depth = 64;
  return boost::json::parse(read_file(golden_path(name)), {}, options);
}

std::string string_of(const boost::json::value& value) {
  const boost::json::string& text = value.as_string();
  return {text.data(), text.size()};
}

std::vector<TokenId> ids_of(const boost::json::value& value) {
  std::vector<TokenId> ids;
  for (const boost::json::value& id : value.as_array()) {
    ids.push_back(static_cast<TokenId>(id.as_int64()));
  }
  return ids;
}

GgufTokenizerFields gguf_fields(const std::string& path) {
  const auto file = value_or_fail(GgufFile::open(path));
  const auto text = [&](const char* key) {
    return std::string(value_or_fail(file->get_string(key)).value_or(""));
  };
  const auto strings = [&](const char* key) {
    const auto views = value_or_fail(file->get_strings(key));
    return std::vector<std::string>(views.begin(), views.end());
  };
  const auto id = [&](const char* key) { return value_or_fail(file->get_int(key)); };
  const auto flag = [&](const char* key) { return value_or_fail(file->get_bool(key)); };
  GgufTokenizerFields fields;
  fields.model = text("tokenizer.ggml.model");
  fields.pre = text("tokenizer.ggml.pre");
  fields.tokens = strings("tokenizer.ggml.tokens");
  fields.merges = strings("tokenizer.ggml.merges");
  fields.scores = value_or_fail(file->get_floats("tokenizer.ggml.scores"));
  fields.token_types = value_or_fail(file->get_ints("tokenizer.ggml.token_type"));
  fields.bos_token_id = id("tokenizer.ggml.bos_token_id");
  fields.eos_token_id = id("tokenizer.ggml.eos_token_id");
  fields.unknown_token_id = id("tokenizer.ggml.unknown_token_id");
  fields.padding_token_id = id("tokenizer.ggml.padding_token_id");
  fields.eot_token_id = id("tokenizer.ggml.eot_token_id");
  fields.eom_token_id = id("tokenizer.ggml.eom_token_id");
  fields.add_bos_token = flag("tokenizer.ggml.add_bos_token");
  fields.add_eos_token = flag("tokenizer.ggml.add_eos_token");
  fields.add_space_prefix = flag("tokenizer.ggml.add_space_prefix");
  return fields;
}

std::unique_ptr<Tokenizer> tokenizer_from_json(const std::string& name) {
  return value_or_fail(
      Tokenizer::from_json(read_file(golden_path(name + "/tokenizer.json")),
                           read_file(golden_path(name + "/tokenizer_config.json"))));
}

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const std::string& path) {
  return value_or_fail(Tokenizer::from_gguf(gguf_fields(path)));
}

std::unique_ptr<Tokenizer> smollm2_tokenizer() {
  const std::string path = smollm2_path();
  return path.empty() ? nullptr : tokenizer_from_gguf(path);
}

}  // namespace pelton::text_test
