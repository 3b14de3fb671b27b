// SPDX-License-Identifier: Apache-2.0
// Other settings for a program that runs: `mprof ctl`.
//
// How       The settings that are wanted go into the dump's control words, under a lock of the file
//           (flock), and one thread that may be signalled is asked to put them in force. If there
//           is none, whichever thread wakes first does it, before the program goes on.
// Blocks    up to a second for the answer, and for another controller.
// Fails     DumpError: the target has ended, or its dump may not be written by this user.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dumper/dump_reader.h"

namespace mprof::dumper {

struct SettingsChange {
  std::optional<uint64_t> heap_rate_bytes;
  std::optional<uint64_t> block_rate_ns;
  std::optional<uint32_t> mutex_fraction;
  std::optional<uint32_t> cpu_hz;
  std::optional<uint32_t> trace;  // 1: on
  [[nodiscard]] bool empty() const {
    return !heap_rate_bytes && !block_rate_ns && !mutex_fraction && !cpu_hz && !trace;
  }
};

// Throws std::invalid_argument that says what is accepted. `name` is the option, for that text.
void set_heap_rate(SettingsChange& change, const std::string& name, const std::string& value);
void set_block_rate(SettingsChange& change, const std::string& name, const std::string& value);
void set_mutex_fraction(SettingsChange& change, const std::string& name, const std::string& value);
// on, off or a number.
void set_cpu(SettingsChange& change, const std::string& name, const std::string& value);
// on or off.
void set_trace(SettingsChange& change, const std::string& name, const std::string& value);

struct ChangeResult {
  bool in_force = false;
  double after_ms = 0;
  std::string why_not_yet;
};

// Throws what change_settings() does.
void require_steerable(const Dump& dump);
// `dump` is open for writing.
ChangeResult change_settings(const Dump& dump, const SettingsChange& change);

// For people: the settings in force, and whether those that were asked for are.
[[nodiscard]] std::string settings_text(const Dump& dump);
[[nodiscard]] std::string result_text(const Dump& dump, const ChangeResult& result);

}  // namespace mprof::dumper
