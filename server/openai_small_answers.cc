// The answers of the small routes, and what they share with the large ones.
#include "core/utf8.h"
#include "server/json_writer.h"
#include "server/openai_response.h"

namespace pelton {

void append_ids(std::string& out, const google::protobuf::RepeatedField<int32_t>& ids) {
  out += '[';
  bool comma = false;
  for (const int32_t id : ids) {
    if (comma) out += ',';
    comma = true;
    append_json_int(out, id);
  }
  out += ']';
}

void append_model(std::string& out, const v1::Model& model) {
  out += R"({"id":)";
  append_json_string(out, model.name());
  out += R"(,"object":"model","created":)";
  append_json_int(out, model.created_unix_s());
  out += R"(,"owned_by":"pelton","root":)";
  append_json_string(out, model.name());
  out += R"(,"parent":null,"max_model_len":)";
  append_json_int(out, model.max_model_len());
  out += '}';
}

void append_model_list(std::string& out, const v1::ListModelsResponse& models) {
  out += R"({"object":"list","data":[)";
  for (int i = 0; i < models.models_size(); ++i) {
    if (i > 0) out += ',';
    append_model(out, models.models(i));
  }
  out += "]}";
}

void append_tokenize(std::string& out, const v1::TokenizeResponse& response, bool with_strings) {
  out += R"({"count":)";
  append_json_int(out, response.token_ids_size());
  out += R"(,"max_model_len":)";
  append_json_int(out, response.max_model_len());
  out += R"(,"tokens":)";
  append_ids(out, response.token_ids());
  out += R"(,"token_strs":)";
  if (with_strings) {
    out += '[';
    for (int i = 0; i < response.token_strings_size(); ++i) {
      if (i > 0) out += ',';
      append_json_string(out, to_valid_utf8(response.token_strings(i)));
    }
    out += ']';
  } else {
    out += "null";
  }
  out += '}';
}

void append_detokenize(std::string& out, const v1::DetokenizeResponse& response) {
  out += R"({"prompt":)";
  append_json_string(out, response.text());
  out += '}';
}

}  // namespace pelton
