#include "bench/gpu_check/report.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

namespace pelton::bench {
namespace {

using Json = nlohmann::ordered_json;

Json row_json(const CheckRow& row) {
  Json out;
  out["name"] = row.name;
  if (!row.unit.empty()) {
    out["value"] = row.value;
    out["unit"] = row.unit;
  }
  if (row.limit > 0) {
    out["limit"] = row.limit;
    out["fraction"] = row.fraction();
    out["lower_is_better"] = row.lower_is_better;
  }
  out["ok"] = row.ok;
  if (!row.note.empty()) out["note"] = row.note;
  return out;
}

CheckRow row_of(const Json& json) {
  CheckRow row;
  row.name = json.value("name", "");
  row.value = json.value("value", 0.0);
  row.unit = json.value("unit", "");
  row.limit = json.value("limit", 0.0);
  row.lower_is_better = json.value("lower_is_better", false);
  row.ok = json.value("ok", true);
  row.note = json.value("note", "");
  return row;
}

std::string number(double value) {
  return value >= 100 ? fmt::format("{:.0f}", value)
                      : fmt::format("{:.{}f}", value, value >= 10 ? 1 : 2);
}

// A cell must not end the row that it stands in.
std::string cell(std::string text) {
  for (char& c : text) {
    if (c == '|' || c == '\n') c = ' ';
  }
  return text;
}

}  // namespace

double CheckRow::fraction() const {
  if (limit <= 0 || value <= 0) return 0;
  return lower_is_better ? limit / value : value / limit;
}

PartReport::PartReport(std::string part, std::string path) : path_(std::move(path)) {
  part_.name = std::move(part);
}

void PartReport::add(CheckRow row) {
  part_.rows.push_back(std::move(row));
  Json rows = Json::array();
  for (const CheckRow& r : part_.rows) rows.push_back(row_json(r));
  std::ofstream(path_) << rows.dump(1) << "\n";
}

bool PartReport::all_ok() const {
  for (const CheckRow& row : part_.rows) {
    if (!row.ok) return false;
  }
  return true;
}

std::vector<CheckRow> read_rows(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const Json json = Json::parse(text.str(), nullptr, false);  // discarded where it is not JSON
  std::vector<CheckRow> rows;
  if (!json.is_array()) return rows;
  for (const Json& row : json) {
    if (row.is_object()) rows.push_back(row_of(row));
  }
  return rows;
}

std::string to_json(const std::vector<CheckPart>& parts) {
  Json out = Json::array();
  for (const CheckPart& part : parts) {
    Json json;
    json["part"] = part.name;
    json["status"] = part.status;
    json["seconds"] = part.seconds;
    json["limit_seconds"] = part.limit_s;
    json["rows"] = Json::array();
    for (const CheckRow& row : part.rows) json["rows"].push_back(row_json(row));
    out.push_back(json);
  }
  return out.dump(1) + "\n";
}

std::string to_markdown(const std::vector<CheckPart>& parts) {
  std::string out =
      "| part | what | figure | limit | of the limit | |\n|---|---|---|---|---|---|\n";
  for (const CheckPart& part : parts) {
    out += fmt::format("| **{}** | | {} | | | {:.1f} s of {:.0f} |\n", part.name, cell(part.status),
                       part.seconds, part.limit_s);
    for (const CheckRow& row : part.rows) {
      const bool limited = row.limit > 0;
      out += fmt::format("| {} | {} | {} | {} | {} | {} |\n", part.name, cell(row.name),
                         row.unit.empty() ? std::string(row.ok ? "ok" : "FAILED")
                                          : number(row.value) + " " + row.unit,
                         limited ? number(row.limit) + " " + row.unit : std::string(),
                         limited ? fmt::format("{:.0f}%", 100 * row.fraction()) : std::string(),
                         cell(row.note + (row.ok || row.unit.empty() ? "" : " FAILED")));
    }
  }
  return out;
}

Status write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) return absl::UnavailableError(fmt::format("{} cannot be written", path));
  return Status();
}

}  // namespace pelton::bench
