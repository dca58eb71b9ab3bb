// The engine's own bounds on a request, whatever a front end has checked before: what passes here
// can not make a step fail. Pure functions, any thread.
#pragma once

#include <span>

#include "core/ids.h"
#include "core/request.h"
#include "core/status.h"

namespace pelton {

// INVALID_ARGUMENT naming the field. `eos`: the ids that end an answer of this model.
Status check_request(const Request& request, int vocab_size, std::span<const TokenId> eos);

}  // namespace pelton
