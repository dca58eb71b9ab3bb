// What a streamed message costs the gRPC front end: a server over an engine that makes one token a
// stream and step, and a client in a process of its own. Not a test: run it by hand.
//   grpc_bench [streams [step_us [seconds [loops [multiplex]]]]]     multiplex 1: all on one stream
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fmt/format.h>

#include "core/metrics.h"
#include "pelton/v1/inference.grpc.pb.h"
#include "server/auth.h"
#include "server/grpc_server.h"
#include "server/inference_service.h"
#include "server/model_host.h"
#include "tests/support/flood_engine.h"

namespace pelton {
namespace {

// One observation a message.
struct MessageCounter final : ModelMetrics {
  std::atomic<int64_t> messages = 0, tokens = 0;
  void observe_time_to_first_token(double) override {}
  void observe_inter_token_latency(double, int count) override {
    messages.fetch_add(1, std::memory_order_relaxed);
    tokens.fetch_add(count, std::memory_order_relaxed);
  }
  void observe_finished(double, const Timing&, FinishReason) override {}
};

class FloodModel final : public ServedModel {
 public:
  FloodModel() : engine_(options(), nullptr, nullptr, &clock_) {
    facts_.name = "flood";
    facts_.vocab_size = 1000;
    facts_.max_model_len = options().max_model_len;
    engine_.start();
  }
  const ModelFacts& facts() const override { return facts_; }
  Engine& engine() override { return engine_; }
  const Tokenizer* tokenizer() const override { return nullptr; }
  const ChatTemplate* chat_template() const override { return nullptr; }
  ModelMetrics* metrics() override { return &counts; }

  MessageCounter counts;

 private:
  static EngineOptions options() {
    EngineOptions out;
    out.max_model_len = 1 << 30;
    out.max_waiting_requests = 1 << 20;
    return out;
  }
  SteadyClock clock_;
  ModelFacts facts_;
  Engine engine_;
};

v1::CompleteRequest endless_request() {
  v1::CompleteRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  request.mutable_sampling()->set_max_tokens(1 << 29);
  return request;
}

// The same over one stream.
[[noreturn]] void run_multiplex_client(int port, int streams) {
  const auto stub = v1::Inference::NewStub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->Multiplex(&context);
  v1::MultiplexRequest request;
  *request.mutable_complete() = endless_request();
  for (int i = 0; i < streams; ++i) {
    request.set_tag(static_cast<uint64_t>(i));
    stream->Write(request);
  }
  v1::MultiplexResponse response;
  while (stream->Read(&response)) {
  }
  std::_Exit(0);
}

// Reads raw messages of many streams as fast as they come, for ever.
[[noreturn]] void run_client(int port, int streams) {
  grpc::GenericStub stub(
      grpc::CreateChannel(fmt::format("127.0.0.1:{}", port), grpc::InsecureChannelCredentials()));
  const grpc::Slice slice(endless_request().SerializeAsString());
  const grpc::ByteBuffer bytes(&slice, 1);
  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
    grpc::ByteBuffer message;
    int phase = 0;
  };
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Stream>> all;
  for (int i = 0; i < streams; ++i) {
    auto stream = std::make_unique<Stream>();
    stream->call =
        stub.PrepareCall(&stream->context, "/pelton.v1.Inference/CompleteStream", &queue);
    stream->call->StartCall(stream.get());
    all.push_back(std::move(stream));
  }
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok) && ok) {
    auto* stream = static_cast<Stream*>(tag);
    if (stream->phase++ == 0) {
      stream->call->WriteLast(bytes, {}, tag);
    } else {
      stream->call->Read(&stream->message, tag);
    }
  }
  std::_Exit(0);
}

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

struct Sample {
  double cpu, engine_cpu, wall;
  int64_t tokens, messages;
};
Sample sample(const MessageCounter& counts) {
  const double wall = to_seconds(std::chrono::steady_clock::now().time_since_epoch());
  return {cpu_seconds(), flood_knobs().cpu_seconds, wall, counts.tokens, counts.messages};
}

void run(int streams, int step_us, int seconds, int loops, int port_pipe) {
  flood_knobs().step_us = step_us;
  SteadyClock clock;
  ModelHost host;
  const auto model = std::make_shared<FloodModel>();
  if (!host.add(model).ok()) return;
  InferenceService service(&host, &clock, {});
  const Authenticator auth({});
  GrpcServerOptions options;
  options.address = "127.0.0.1:0";
  options.threads = loops;
  const auto server = GrpcServer::start(options, &service, &auth).value();
  const int port = server->port();
  if (write(port_pipe, &port, sizeof(port)) != sizeof(port)) return;
  while (model->engine().load().running_requests < streams) usleep(1000);
  usleep(300'000);
  const Sample before = sample(model->counts);
  usleep(static_cast<useconds_t>(seconds) * 1'000'000);
  const Sample after = sample(model->counts);
  const double wall = after.wall - before.wall;
  const double front = (after.cpu - before.cpu) - (after.engine_cpu - before.engine_cpu);
  const auto tokens = static_cast<double>(after.tokens - before.tokens);
  const auto messages = static_cast<double>(after.messages - before.messages);
  fmt::print(
      "{} streams, step pause {} us, {} loop(s): {:.0f} tokens/s, {:.0f} messages/s, front end "
      "{:.2f} cores, {:.2f} us a message, {:.2f} us a token, {:.0f} messages/s a core\n",
      streams, step_us, loops, tokens / wall, messages / wall, front / wall, 1e6 * front / messages,
      1e6 * front / tokens, messages / front);
}

}  // namespace
}  // namespace pelton

int main(int argc, char** argv) {
  const auto argument = [&](int i, int otherwise) {
    return argc > i ? std::atoi(argv[i]) : otherwise;
  };
  const int streams = argument(1, 256);
  int ports[2];
  if (pipe(ports) != 0) return 1;
  const pid_t client = fork();
  if (client == 0) {
    int port = 0;
    if (read(ports[0], &port, sizeof(port)) != sizeof(port)) return 1;
    if (argument(5, 0) != 0) pelton::run_multiplex_client(port, streams);
    pelton::run_client(port, streams);
  }
  pelton::run(streams, argument(2, 0), argument(3, 5), argument(4, 1), ports[1]);
  return waitpid(client, nullptr, 0) == client ? 0 : 1;
}
