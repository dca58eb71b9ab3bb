#include "server/model_host.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace pelton {

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
  Status status = absl::NotFoundError(fmt::format("model: {} is not served here", name));
  set_error_field(status, "model");
  set_error_reason(status, "MODEL_NOT_FOUND");
  return status;
}

}  // namespace pelton
