#include "core/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <mutex>
#include <vector>

namespace pelton {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using prometheus::Registry;
using Buckets = Histogram::BucketBoundaries;

// vLLM's boundaries, so that existing dashboards fit.
const Buckets kFirstTokenBuckets = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                    0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                    20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
const Buckets kInterTokenBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                                    0.15,  0.2,    0.3,   0.4,  0.5,   0.75, 1.0,   2.5,
                                    5.0,   7.5,    10.0,  20.0, 40.0,  80.0};
const Buckets kRequestBuckets = {0.3,  0.5,  0.8,  1.0,  1.5,  2.0,   2.5,   5.0,   10.0,  15.0,
                                 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0};

constexpr std::array<FinishReason, 4> kReasons = {FinishReason::kStop, FinishReason::kLength,
                                                  FinishReason::kAbort, FinishReason::kError};

// A prometheus counter that follows a total counted elsewhere.
class FollowedCounter {
 public:
  explicit FollowedCounter(Counter& counter) : counter_(counter) {}
  void follow(int64_t total) {
    if (total > seen_) counter_.Increment(static_cast<double>(total - seen_));
    seen_ = total;
  }

 private:
  Counter& counter_;
  int64_t seen_ = 0;
};

class PrometheusModel final : public ModelMetrics {
 public:
  PrometheusModel(Registry& registry, const Labels& labels,
                  std::function<std::pair<Load, EngineTotals>()> read)
      : registry_(registry), labels_(labels), read_(std::move(read)) {
    for (size_t i = 0; i < kReasons.size(); ++i) {
      Labels with_reason = labels_;
      with_reason["finished_reason"] = std::string(finish_reason_name(kReasons[i]));
      success_[i] = &prometheus::BuildCounter()
                         .Name("pelton:request_success_total")
                         .Help("Requests ended, by finish reason.")
                         .Register(registry_)
                         .Add(with_reason);
    }
  }

  void observe_time_to_first_token(double seconds) override { first_token_.Observe(seconds); }

  void observe_inter_token_latency(double seconds, int tokens) override {
    for (int i = 0; i < tokens; ++i) inter_token_.Observe(seconds);
  }

  void observe_finished(double e2e_seconds, const Timing& timing, FinishReason reason) override {
    e2e_.Observe(e2e_seconds);
    observe_phase(queue_, timing.queued);
    observe_phase(prefill_, timing.prefill);
    observe_phase(decode_, timing.decode);
    for (size_t i = 0; i < kReasons.size(); ++i) {
      if (kReasons[i] == reason) success_[i]->Increment();
    }
  }

  // A request that was given up has no time in the phases that it never came to.
  static void observe_phase(Histogram& phase, Duration time) {
    if (time > Duration::zero()) phase.Observe(to_seconds(time));
  }

  void scrape() {
    const auto [load, totals] = read_();
    running_.Set(static_cast<double>(load.running_requests));
    waiting_.Set(static_cast<double>(load.waiting_requests));
    kv_usage_.Set(load.kv_cache_usage());
    prompt_tokens_.follow(totals.prompt_tokens);
    generation_tokens_.follow(totals.generation_tokens);
    preemptions_.follow(totals.preemptions);
    cache_queries_.follow(totals.prefix_cache_queries);
    cache_hits_.follow(totals.prefix_cache_hits);
  }

 private:
  Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels_);
  }
  FollowedCounter counter(const char* name, const char* help) {
    return FollowedCounter(
        prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels_));
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels_,
                                                                                      buckets);
  }

  Registry& registry_;
  Labels labels_;
  std::function<std::pair<Load, EngineTotals>()> read_;
  Gauge& running_ = gauge("pelton:num_requests_running", "Requests that hold KV blocks.");
  Gauge& waiting_ = gauge("pelton:num_requests_waiting", "Requests queued or preempted.");
  Gauge& kv_usage_ = gauge("pelton:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.");
  FollowedCounter prompt_tokens_ =
      counter("pelton:prompt_tokens_total", "Prompt tokens of requests whose prompt was computed.");
  FollowedCounter generation_tokens_ =
      counter("pelton:generation_tokens_total", "Tokens generated.");
  FollowedCounter preemptions_ =
      counter("pelton:num_preemptions_total", "Sequences preempted to free blocks.");
  FollowedCounter cache_queries_ =
      counter("pelton:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.");
  FollowedCounter cache_hits_ =
      counter("pelton:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.");
  Histogram& first_token_ = histogram("pelton:time_to_first_token_seconds",
                                      "Arrival to first token.", kFirstTokenBuckets);
  Histogram& inter_token_ = histogram("pelton:inter_token_latency_seconds",
                                      "Gap between two tokens of an answer.", kInterTokenBuckets);
  Histogram& e2e_ =
      histogram("pelton:e2e_request_latency_seconds", "Arrival to last token.", kRequestBuckets);
  Histogram& queue_ = histogram("pelton:request_queue_time_seconds", "Arrival to first scheduled.",
                                kRequestBuckets);
  Histogram& prefill_ = histogram("pelton:request_prefill_time_seconds",
                                  "First scheduled to first token.", kRequestBuckets);
  Histogram& decode_ = histogram("pelton:request_decode_time_seconds", "First token to last token.",
                                 kRequestBuckets);
  std::array<Counter*, kReasons.size()> success_{};
};

}  // namespace

class Metrics::Impl {
 public:
  Registry registry;
  std::mutex mutex;  // guards models and serialises scrapes
  std::vector<std::unique_ptr<PrometheusModel>> models;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

ModelMetrics& Metrics::add_model(const std::string& served_name,
                                 std::function<std::pair<Load, EngineTotals>()> read) {
  const std::lock_guard lock(impl_->mutex);
  impl_->models.push_back(std::make_unique<PrometheusModel>(
      impl_->registry, Labels{{"model_name", served_name}}, std::move(read)));
  return *impl_->models.back();
}

std::string Metrics::render() {
  const std::lock_guard lock(impl_->mutex);
  for (auto& model : impl_->models) model->scrape();
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace pelton
