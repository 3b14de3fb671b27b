// SPDX-License-Identifier: Apache-2.0
// Names as g++ 12, clang 14 with libstdc++ and clang 14 with libc++ make them, demangled.
#include "dumper/callable_name.h"

#include <string>
#include <string_view>
#include <utility>

#include "tests/unit/catch.h"

namespace mprof::dumper {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // what the wrapper holds, its callable

std::string state(std::string_view tuple) {
  return "std::thread::_State_impl<std::thread::_Invoker<std::tuple<" + std::string(tuple) +
         "> > >";
}

std::string proxy(std::string_view name, std::string_view tuple) {
  return "void* std::__1::" + std::string(name) +
         "<std::__1::tuple<std::__1::unique_ptr<std::__1::__thread_struct, "
         "std::__1::default_delete<std::__1::__thread_struct> >, " +
         std::string(tuple) + "> >(void*)";
}

TEST_CASE("callable_name: the state of std::thread is named by its callable") {
  constexpr Pair kStates[] = {
      {"main::{lambda(int)#1}, int", "main::{lambda(int)#1}"},
      {"main::{lambda()#2}", "main::{lambda()#2}"},
      {"main::$_1, int", "main::$_1"},
      {"Functor", "Functor"},
      {"(anonymous namespace)::Hidden", "(anonymous namespace)::Hidden"},
      {"void (*)(int, char), int, char", "void (*)(int, char)"},
      {"void (Worker::*)(int), Worker*, int", "void (Worker::*)(int)"},
      {"std::reference_wrapper<Functor> ", "Functor"},
      {"std::function<void ()> ", "std::function<void ()>"},
      {"std::packaged_task<int (int)>, int", "std::packaged_task<int (int)>"},
      {"Box<std::pair<int, int> >, std::vector<int, std::allocator<int> > ",
       "Box<std::pair<int, int> >"},
      {"main::{lambda(std::stop_token)#1}, std::stop_token", "main::{lambda(std::stop_token)#1}"},
      {"main::{lambda(std::map<int, int>)#1}, std::map<int, int> ",
       "main::{lambda(std::map<int, int>)#1}"},
  };
  for (const auto& [tuple, callable] : kStates) CHECK(callable_name(state(tuple)) == callable);
}

TEST_CASE("callable_name: brackets in operators and comparisons open and close nothing") {
  constexpr Pair kStates[] = {
      {"Functor::operator<(int) const::{lambda()#1}",
       "Functor::operator<(int) const::{lambda()#1}"},
      {"operator<< <int>(int, Box<int>)::{lambda()#1}, int",
       "operator<< <int>(int, Box<int>)::{lambda()#1}"},
      {"Pointer::operator->() const::{lambda()#1}, int",
       "Pointer::operator->() const::{lambda()#1}"},
      {"Key::operator<=>(Key) const::{lambda()#1}, int",
       "Key::operator<=>(Key) const::{lambda()#1}"},
      {"my_operator<int>, int", "my_operator<int>"},
      {"Choice<((3)>(2)), int>, int", "Choice<((3)>(2)), int>"},
  };
  for (const auto& [tuple, callable] : kStates) CHECK(callable_name(state(tuple)) == callable);
}

TEST_CASE("callable_name: the thread of std::async is named by what it runs") {
  const std::string run = "std::__future_base::_Async_state_impl<std::thread::_Invoker<std::tuple<";
  CHECK(callable_name(state("void (" + run + "main::{lambda()#2}> >, int>::*)(), " + run +
                            "main::{lambda()#2}> >, int>*")) == "main::{lambda()#2}");
  CHECK(callable_name(state("void (" + run + "void (*)(int), int> >, void>::*)(), " + run +
                            "void (*)(int), int> >, void>*")) == "void (*)(int)");
  // libstdc++ before 12.
  CHECK(callable_name(
            state(run + "main::{lambda()#1}> >, void>::_Async_state_impl(std::thread::_Invoker<" +
                  "std::tuple<main::{lambda()#1}> >&&)::{lambda()#1}")) == "main::{lambda()#1}");
}

TEST_CASE("callable_name: the thread of libc++ is named by its callable") {
  CHECK(callable_name(proxy("__thread_proxy", "main::$_0, int")) == "main::$_0");
  CHECK(callable_name(proxy("__thread_proxy[abi:v160006]", "main::$_0, int")) == "main::$_0");
  CHECK(callable_name(proxy("__thread_proxy", "void (Worker::*)(int), Worker*, int")) ==
        "void (Worker::*)(int)");
  CHECK(callable_name(proxy("__thread_proxy", "std::__1::reference_wrapper<Functor> ")) ==
        "Functor");
  const std::string_view state = "std::__1::__async_assoc_state<int, std::__1::__async_func<";
  const std::string run = "void (" + std::string(state) + "main::$_1> >::*)()";
  CHECK(callable_name(proxy("__thread_proxy", run + ", " + std::string(state) + "main::$_1> >*")) ==
        "main::$_1");
}

TEST_CASE("callable_name: what is no wrapper, or a broken one, comes back as it is") {
  constexpr std::string_view kNames[] = {
      "",
      "worker(void*)",
      "gomp_thread_start",
      "std::reference_wrapper_user(int)",
      "std::thread::_State_impl<Other>",
      "std::thread::_State_impl<std::thread::_Invoker<std::tuple<",
      "std::thread::_State_impl<std::thread::_Invoker<std::tuple<> > >",
      "std::thread::_State_impl<std::thread::_Invoker<std::tuple<A<B, int",
      "void* std::__1::__thread_proxy<std::__1::tuple<A> >(void*)",
      "0x7f12a0001230",
      "libx.so+0x1234",
  };
  for (const std::string_view name : kNames) CHECK(callable_name(name) == name);
}

}  // namespace
}  // namespace mprof::dumper
