#include "server/cache_folder.h"

#include <filesystem>

namespace pelton {

std::string cache_folder(const char* xdg, const char* home) {
  namespace fs = std::filesystem;
  if (xdg != nullptr && fs::path(xdg).is_absolute()) return fs::path(xdg) / "pelton";
  if (home != nullptr && fs::path(home).is_absolute()) return fs::path(home) / ".cache" / "pelton";
  return "";
}

}  // namespace pelton
