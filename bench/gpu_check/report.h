// What gpu_check finds: rows, kept as JSON after each one, so that a part that is cut off leaves
// what it had; and the table made of them. Plain values, one thread.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"

namespace pelton::bench {

struct CheckRow {
  std::string name;
  double value = 0;
  std::string unit;  // "GB/s", "us", "tok/s"; empty: a fact or a verdict, in `note`
  double limit = 0;  // the best that the card's ceilings allow, same unit; 0: none
  bool lower_is_better = false;
  bool ok = true;
  std::string note;

  // How near to the limit, 1 at best; 0 without one.
  double fraction() const;
};

struct CheckPart {
  std::string name;
  std::string status = "not run";  // "passed", "failed", "timed out", "skipped: why"
  double seconds = 0;
  double limit_s = 0;
  std::vector<CheckRow> rows;
};

// The rows of one part, written to `path` after each addition.
class PartReport {
 public:
  PartReport(std::string part, std::string path);
  void add(CheckRow row);
  bool all_ok() const;

 private:
  CheckPart part_;
  std::string path_;
};

// The rows that a part left; none where there is no file.
std::vector<CheckRow> read_rows(const std::string& path);

std::string to_json(const std::vector<CheckPart>& parts);
std::string to_markdown(const std::vector<CheckPart>& parts);
Status write_text(const std::string& path, const std::string& text);

}  // namespace pelton::bench
