// Not a test: how many events a second one I/O thread writes, for http_test "[.bench][long]".
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "tests/server/gateway_fixture.h"

namespace pelton {
namespace {

// Counts the events that arrive on all its sockets.
class EventCounter {
 public:
  EventCounter() : epoll_(::epoll_create1(0)) {}
  ~EventCounter() {
    stop_ = true;
    thread_.join();
    ::close(epoll_);
  }
  void add(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }
  void start() {
    thread_ = std::thread([this] { run(); });
  }
  int64_t total() const { return total_.load(std::memory_order_acquire); }

 private:
  void run() {
    std::vector<char> bytes(size_t{1} << 16);
    epoll_event ready[256];
    while (!stop_) {
      const int count = ::epoll_wait(epoll_, ready, 256, 10);
      for (int i = 0; i < count; ++i) {
        const ssize_t got = ::recv(ready[i].data.fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (got <= 0) continue;
        const std::string_view text(bytes.data(), static_cast<size_t>(got));
        int64_t events = 0;
        for (size_t at = text.find("data: "); at != text.npos; at = text.find("data: ", at + 6)) {
          ++events;
        }
        total_.fetch_add(events, std::memory_order_release);
      }
    }
  }

  int epoll_;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> total_{0};
  std::thread thread_;
};

}  // namespace

TEST_CASE("events a second of one io thread at 256 streams", "[.bench][long]") {
  std::atomic<int64_t> cpu_ns{0};
  HttpDeps deps;
  deps.metrics = [&] {  // runs on the I/O thread: the way to its clock
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    cpu_ns = now.tv_sec * int64_t{1000000000} + now.tv_nsec;
    return std::string("\n");
  };
  Gateway gateway({}, std::move(deps));
  constexpr int kStreams = 256;
  constexpr int kSteps = 2000;
  std::vector<std::unique_ptr<RawClient>> clients;
  EventCounter counter;
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(std::make_unique<RawClient>(gateway.port()));
    counter.add(clients.back()->descriptor());
    clients.back()->send(
        http_request("POST", "/v1/chat/completions",
                     R"({"messages":[{"role":"user","content":"x"}],"stream":true})"));
  }
  REQUIRE(eventually([&] { return gateway.core.started() == kStreams; }));
  const std::vector<FakeCall> calls = gateway.core.calls();
  counter.start();
  int64_t before = 0;
  for (int step = 0; step < kSteps; ++step) {
    if (step == 10) {  // heads are sent, buffers have grown
      gateway.ask("GET", "/metrics");
      before = cpu_ns;
    }
    std::vector<RequestOutput> outputs(kStreams);
    for (int i = 0; i < kStreams; ++i) {
      outputs[i].id = calls[i].id;
      outputs[i].text = " token";
      outputs[i].tokens = {step};
      outputs[i].usage = {20, 0, step};
    }
    calls[0].sink->deliver(std::move(outputs));
    while (counter.total() < int64_t{kStreams} * (step + 1)) std::this_thread::yield();
  }
  gateway.ask("GET", "/metrics");
  const double seconds = static_cast<double>(cpu_ns - before) * 1e-9;
  const double events = static_cast<double>(kStreams) * (kSteps - 10);
  std::printf("%.0f events, %.2f us of processor time each, %.0f events/s a core\n", events,
              seconds * 1e6 / events, events / seconds);
}

}  // namespace pelton
