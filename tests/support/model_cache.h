// Where tests find real models, which are never part of the repository. An absent one skips what
// needs it, loudly.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/catch.h"

namespace pelton {

inline std::string model_cache_folder() {
  const auto env = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (!env("PELTON_MODEL_CACHE").empty()) return env("PELTON_MODEL_CACHE");
  if (!env("XDG_CACHE_HOME").empty()) return env("XDG_CACHE_HOME") + "/pelton/models";
  return env("HOME") + "/.cache/pelton/models";
}

// The demo model's file, or "" with a warning in the test's output.
inline std::string smollm2_path() {
  const std::string path =
      model_cache_folder() + "/SmolLM2-135M-Instruct-Q4_1/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (std::filesystem::exists(path)) return path;
  WARN("SKIPPED: the demo model is not at " << path << " (make run fetches it)");
  return "";
}

}  // namespace pelton
