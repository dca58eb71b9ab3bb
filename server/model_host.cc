#include "server/model_host.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/utf8.h"

namespace pelton {

namespace {

constexpr size_t kMaxShownBytes = 128;  // of a name that a client made up

// Valid UTF-8, whole characters of it.
std::string shown(std::string_view name) {
  std::string text = to_valid_utf8(name.substr(0, kMaxShownBytes + 1));
  if (text.size() <= kMaxShownBytes) return text;
  size_t end = kMaxShownBytes - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

}  // namespace

Status ModelHost::add(std::shared_ptr<ServedModel> model) {
  const std::string& name = model->facts().name;
  for (const auto& other : models_) {
    if (other->facts().name == name) {
      return absl::AlreadyExistsError(fmt::format("a model named {} is already served", name));
    }
  }
  models_.push_back(std::move(model));
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<ServedModel>> ModelHost::find(std::string_view name) const {
  const auto found = name.empty()
                         ? models_.begin()
                         : std::find_if(models_.begin(), models_.end(),
                                        [name](const auto& m) { return m->facts().name == name; });
  if (found != models_.end()) return *found;
  Status status = absl::NotFoundError(fmt::format("model: {} is not served here", shown(name)));
  set_error_field(status, "model");
  set_error_reason(status, "MODEL_NOT_FOUND");
  return status;
}

}  // namespace pelton
