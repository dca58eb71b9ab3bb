// The bounds of SamplingParams and Scheduling (common.proto): a part of convert.h's validator.
#pragma once

#include "core/sampling_params.h"
#include "pelton/v1/common.pb.h"
#include "server/convert.h"
#include "server/field_check.h"

namespace pelton {

void check_sampling(const v1::SamplingParams& sampling, const ModelLimits& limits,
                    const FieldCheck& check);
void check_scheduling(const v1::Scheduling& scheduling, const FieldCheck& check);

// Of checked parameters. max_tokens is 0 where absent: fit_to_context() decides.
SamplingParams to_core(v1::SamplingParams sampling);

}  // namespace pelton
