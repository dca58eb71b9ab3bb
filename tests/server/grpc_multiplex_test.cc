#include <map>

#include "tests/support/grpc_fixture.h"

namespace pelton {
namespace {

using Stream = grpc::ClientReaderWriter<v1::MultiplexRequest, v1::MultiplexResponse>;

v1::MultiplexRequest complete(uint64_t tag, const std::string& text, int max_tokens) {
  v1::MultiplexRequest request;
  request.set_tag(tag);
  request.mutable_complete()->mutable_prompt()->set_text(text);
  request.mutable_complete()->mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

v1::MultiplexRequest chat(uint64_t tag, int max_tokens) {
  v1::MultiplexRequest request;
  request.set_tag(tag);
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_content()->set_text("hello");
  request.mutable_chat()->mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

struct Answer {
  std::string text;
  v1::FinishReason finish = v1::FINISH_REASON_UNSPECIFIED;
  google::rpc::Status error;
  int lasts = 0;
  bool after_last = false;
};

std::map<uint64_t, Answer> read_all(Stream& stream) {
  std::map<uint64_t, Answer> answers;
  v1::MultiplexResponse message;
  while (stream.Read(&message)) {
    for (const auto& item : message.items()) {
      Answer& answer = answers[item.tag()];
      answer.after_last = answer.after_last || answer.lasts > 0;
      answer.lasts += item.last();
      if (item.has_error()) answer.error = item.error();
      if (item.has_complete()) {
        answer.text += item.complete().choices(0).text();
        answer.finish = item.complete().choices(0).finish_reason();
      }
      if (item.has_chat()) {
        for (const auto& part : item.chat().choices(0).message().content()) {
          answer.text += part.text();
        }
        answer.finish = item.chat().choices(0).finish_reason();
      }
    }
  }
  return answers;
}

}  // namespace

TEST_CASE("many requests share one stream and each ends once with its own answer") {
  FakeModelOptions options;
  options.engine.max_num_seqs = 32;
  GrpcFixture f(options);
  grpc::ClientContext context;
  const auto stream = f.inference->Multiplex(&context);
  for (uint64_t tag = 0; tag < 40; ++tag) {
    REQUIRE(stream->Write(complete(tag, std::string(tag + 1, 'q'), 20 + static_cast<int>(tag))));
  }
  REQUIRE(stream->Write(chat(100, 7)));
  auto bad = complete(101, "x", 5);
  bad.mutable_complete()->mutable_sampling()->set_top_p(7);
  REQUIRE(stream->Write(bad));
  REQUIRE(stream->Write(complete(102, std::string(600, 'x'), 5)));  // found by the tokenizer
  stream->WritesDone();
  const auto answers = read_all(*stream);
  CHECK(stream->Finish().ok());
  CHECK(answers.size() == 43);
  for (const auto& [tag, answer] : answers) {
    CAPTURE(tag);
    CHECK(answer.lasts == 1);
    CHECK_FALSE(answer.after_last);
    if (tag >= 40) continue;
    CHECK(answer.text.size() == 20 + tag);
    CHECK(answer.text[0] == static_cast<char>('a' + (tag + 1) % 26));
    CHECK(answer.finish == v1::FINISH_REASON_LENGTH);
  }
  CHECK(answers.at(100).text.size() == 7);
  CHECK(answers.at(101).error.code() == static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
  CHECK(answers.at(102).error.code() == static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
  CHECK(f.nothing_left());
}

TEST_CASE("one request of a stream is cancelled by its tag and all of them with the call") {
  FakeModelOptions options;
  options.engine.max_model_len = 8000;
  options.step_time = std::chrono::milliseconds(1);
  GrpcFixture f(options);
  grpc::ClientContext context;
  const auto stream = f.inference->Multiplex(&context);
  REQUIRE(stream->Write(complete(1, "xyz", 7000)));
  REQUIRE(stream->Write(complete(2, "xyz", 10)));
  v1::MultiplexResponse message;
  REQUIRE(stream->Read(&message));
  SECTION("by tag") {
    v1::MultiplexRequest cancel;
    cancel.set_tag(1);
    cancel.set_cancel(true);
    REQUIRE(stream->Write(cancel));
    cancel.set_tag(77);  // unknown tags are ignored
    REQUIRE(stream->Write(cancel));
    stream->WritesDone();
    const auto answers = read_all(*stream);
    CHECK(stream->Finish().ok());
    CHECK(answers.at(1).finish == v1::FINISH_REASON_ABORT);
    CHECK(answers.at(1).lasts == 1);
    CHECK(answers.at(2).finish == v1::FINISH_REASON_LENGTH);
  }
  SECTION("with the call") {
    context.TryCancel();
    CHECK(stream->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  CHECK(f.nothing_left());
}

TEST_CASE("what can not be told of one request ends the stream and its requests") {
  GrpcFixture f;
  grpc::ClientContext context;
  const auto stream = f.inference->Multiplex(&context);
  f.model->gate.close();
  REQUIRE(stream->Write(complete(1, "xyz", 100)));
  SECTION("a tag that is open") {
    stream->Write(complete(1, "xyz", 100));
  }
  SECTION("no action") {
    stream->Write({});
  }
  read_all(*stream);
  const grpc::Status status = stream->Finish();
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK_FALSE(bad_field(status).empty());
  f.model->gate.open();
  CHECK(f.nothing_left());
}

TEST_CASE("requests of one stream merge while its client does not read") {
  FakeModelOptions options;
  options.engine.max_model_len = 4000;
  GrpcFixture f(options);
  grpc::ClientContext context;
  const auto stream = f.inference->Multiplex(&context);
  for (uint64_t tag = 0; tag < 4; ++tag) REQUIRE(stream->Write(complete(tag, "xyz", 3000)));
  stream->WritesDone();
  REQUIRE(eventually([&] { return f.model->engine().stats().generation_tokens >= 12000; }));
  const auto answers = read_all(*stream);
  CHECK(stream->Finish().ok());
  REQUIRE(answers.size() == 4);
  for (const auto& [tag, answer] : answers) CHECK(answer.text.size() == 3000);
  CHECK(f.nothing_left());
}

}  // namespace pelton
