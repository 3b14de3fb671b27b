// SPDX-License-Identifier: Apache-2.0
// Sockets: messages, connections, names of hosts.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include "tests/targets/call_results.h"

static const char kAddress[] = "call_results_socket";
static const char kPeer[] = "call_results_peer";

#define TRY_RECEIVE(call)                                           \
  do {                                                              \
    memset(in, 0, sizeof in);                                       \
    errno = kErrnoBefore;                                           \
    const long received = (call);                                   \
    show(#call, received, errno);                                   \
    show_text("  has received", in, received > 16 ? 16 : received); \
  } while (0)

static void try_stream(void) {
  const struct Pipe ends = make_pair(SOCK_STREAM);
  char in[16];
  TRY(send(ends.in, "0123456789", 10, 0));
  TRY_RECEIVE(recv(ends.out, in, some(3), MSG_PEEK));
  TRY_RECEIVE(recv(ends.out, in, some(4), 0));
  TRY_RECEIVE(recv(ends.out, in, 3, 0));
  TRY_RECEIVE(recv(ends.out, in, some(16), 0));
  TRY_RECEIVE(recv(ends.out, in, some(16), MSG_DONTWAIT));
  TRY_RECEIVE(recv(-1, in, some(16), 0));
  TRY_RECEIVE(recv(ends.out, nowhere(), 16, MSG_DONTWAIT));
  const struct timeval soon = {0, 20000};
  setsockopt(ends.out, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
  TRY_RECEIVE(recv(ends.out, in, some(16), 0));
  TRY_RECEIVE(recvfrom(ends.out, in, some(16), 0, NULL, NULL));
  fill(ends.in);
  TRY(send(ends.in, "0", 1, MSG_DONTWAIT));
  TRY(send(-1, "0", 1, 0));
  shutdown(ends.out, SHUT_RDWR);
  TRY(send(ends.in, "0", 1, MSG_NOSIGNAL));
  TRY(send(ends.in, "0", 1, 0));
  close_both(ends);
}

static void try_datagrams(void) {
  const int one = socket(AF_UNIX, SOCK_DGRAM, 0), two = socket(AF_UNIX, SOCK_DGRAM, 0);
  const struct sockaddr_un address = address_of(kAddress), peer = address_of(kPeer);
  struct sockaddr_un from = {0};
  socklen_t from_bytes = sizeof from;
  char in[16];
  if (bind(one, (const struct sockaddr*)&address, sizeof address) != 0 ||
      bind(two, (const struct sockaddr*)&peer, sizeof peer) != 0)
    exit(3);
  TRY(sendto(two, "hello", 5, 0, (const struct sockaddr*)&address, sizeof address));
  TRY_RECEIVE(recvfrom(one, in, some(16), 0, (struct sockaddr*)&from, &from_bytes));
  show_text("  from", from.sun_path, (long)strlen(from.sun_path));
  show_number("  bytes", from_bytes);
  TRY(sendto(two, "again", 5, 0, (const struct sockaddr*)&address, sizeof address));
  TRY_RECEIVE(recvfrom(one, in, 3, MSG_TRUNC, NULL, NULL));
  TRY_RECEIVE(recvfrom(one, in, some(16), MSG_DONTWAIT, NULL, NULL));
  TRY_RECEIVE(recvfrom(-1, in, some(16), 0, NULL, NULL));
  TRY(sendto(two, "x", 1, 0, NULL, 0));
  TRY(sendto(-1, "x", 1, 0, NULL, 0));
  TRY(connect(two, (const struct sockaddr*)&address, sizeof address));
  TRY(sendto(two, "x", 1, 0, NULL, 0));
  close(one);
  TRY(sendto(two, "x", 1, 0, NULL, 0));
  close(two);
  TRY(unlink(kAddress));
  TRY(unlink(kPeer));
}

// A descriptor goes along.
static void try_messages(void) {
  const struct Pipe ends = make_pair(SOCK_DGRAM);
  char in[16], control[CMSG_SPACE(sizeof(int))] = "";
  struct iovec out_part = {(void*)"message", 7}, in_part = {in, sizeof in};
  struct msghdr out = {.msg_iov = &out_part, .msg_iovlen = 1};
  struct msghdr got = {.msg_iov = &in_part, .msg_iovlen = 1};
  out.msg_control = got.msg_control = control;
  out.msg_controllen = got.msg_controllen = sizeof control;
  struct cmsghdr* head = CMSG_FIRSTHDR(&out);
  *head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(head), &ends.in, sizeof(int));
  TRY(sendmsg(ends.in, &out, 0));
  memset(control, 0, sizeof control);
  TRY_RECEIVE(recvmsg(ends.out, &got, 0));
  int sent = -1;
  memcpy(&sent, CMSG_DATA(CMSG_FIRSTHDR(&got)), sizeof sent);
  show_number("  with descriptor", sent);
  TRY(close(sent));
  TRY_RECEIVE(recvmsg(ends.out, &got, MSG_DONTWAIT));
  TRY_RECEIVE(recvmsg(-1, &got, 0));
  TRY_RECEIVE(recvmsg(ends.out, nowhere(), 0));
  TRY(sendmsg(-1, &out, 0));
  TRY(sendmsg(ends.in, nowhere(), 0));
  close_both(ends);
}

static void try_many_messages(void) {
  const struct Pipe ends = make_pair(SOCK_DGRAM);
  char in[16];
  struct iovec out_parts[2] = {{(void*)"one", 3}, {(void*)"three", 5}};
  struct iovec in_parts[3] = {{in, 5}, {in + 5, 5}, {in + 10, 5}};
  struct mmsghdr out[2] = {0}, got[3] = {0};
  for (int i = 0; i < 2; ++i)
    out[i].msg_hdr = (struct msghdr){.msg_iov = &out_parts[i], .msg_iovlen = 1};
  for (int i = 0; i < 3; ++i)
    got[i].msg_hdr = (struct msghdr){.msg_iov = &in_parts[i], .msg_iovlen = 1};
  struct timespec time = {5, 0};
  TRY(sendmmsg(ends.in, out, 2, 0));
  TRY(sendmmsg(ends.in, out, 0, 0));
  TRY(sendmmsg(-1, out, 2, 0));
  show_number("  first", out[0].msg_len);
  show_number("  second", out[1].msg_len);
  TRY(recvmmsg(ends.out, got, 3, MSG_WAITFORONE, &time));
  show_number("  first", got[0].msg_len);
  show_number("  second", got[1].msg_len);
  TRY(recvmmsg(ends.out, got, 3, MSG_DONTWAIT, NULL));
  TRY(recvmmsg(-1, got, 3, 0, NULL));
  time.tv_nsec = -1;
  TRY(recvmmsg(ends.out, got, 3, 0, &time));
  close_both(ends);
}

static void try_on_files(void) {
  const int file = open("/dev/null", O_RDWR);
  char in[16];
  TRY(send(file, "x", 1, 0));
  TRY_RECEIVE(recv(file, in, some(16), 0));
  TRY_RECEIVE(recvfrom(file, in, some(16), 0, NULL, NULL));
  TRY(accept(file, NULL, NULL));
  TRY(accept4(-1, NULL, NULL, 0));
  TRY(connect(file, (const struct sockaddr*)in, sizeof in));
  close(file);
}

void try_sockets(void) {
  section = "sockets";
  try_stream();
  try_datagrams();
  try_messages();
  try_many_messages();
  try_on_files();
}

void try_connections(void) {
  section = "connections";
  const struct sockaddr_un address = address_of(kAddress), none = address_of("none");
  struct sockaddr_un from = {0};
  socklen_t bytes = sizeof from;
  const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int client = socket(AF_UNIX, SOCK_STREAM, 0);
  TRY(accept(server, NULL, NULL));
  if (bind(server, (const struct sockaddr*)&address, sizeof address) != 0) exit(3);
  TRY(connect(client, (const struct sockaddr*)&address, sizeof address));
  TRY(connect(client, (const struct sockaddr*)&none, sizeof none));
  TRY(connect(-1, (const struct sockaddr*)&none, sizeof none));
  TRY(connect(client, nowhere(), sizeof none));
  listen(server, 5);
  TRY(accept(server, NULL, NULL));
  TRY(accept4(server, NULL, NULL, SOCK_CLOEXEC));
  TRY(connect(client, (const struct sockaddr*)&address, sizeof address));
  TRY(connect(client, (const struct sockaddr*)&address, sizeof address));
  errno = kErrnoBefore;
  const int accepted = accept(server, (struct sockaddr*)&from, &bytes);
  show("accept", accepted, errno);
  show_number("  from bytes", bytes);
  TRY(close(accepted));
  const int second = socket(AF_UNIX, SOCK_STREAM, 0);
  TRY(connect(second, (const struct sockaddr*)&address, sizeof address));
  const int flagged = accept4(server, NULL, NULL, SOCK_CLOEXEC);
  TRY(fcntl(flagged, F_GETFD));
  TRY(accept4(server, NULL, NULL, 12345));
  close(flagged);
  close(second);
  close(client);
  close(server);
  TRY(unlink(kAddress));
}

static void show_address(const struct addrinfo* info) {
  char text[INET6_ADDRSTRLEN] = "";
  const struct sockaddr_in* address = (const struct sockaddr_in*)(const void*)info->ai_addr;
  inet_ntop(info->ai_family, &address->sin_addr, text, sizeof text);
  show_text("  address", text, (long)strlen(text));
  show_number("  port", ntohs(address->sin_port));
}

void try_names_of_hosts(void) {
  section = "hosts";
  const struct addrinfo numbers = {.ai_family = AF_INET,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
  const struct addrinfo wrong = {.ai_flags = 1 << 30};
  struct addrinfo* found = NULL;
  TRY(getaddrinfo("127.1.2.3", "80", &numbers, &found));
  show_address(found);
  freeaddrinfo(found);
  TRY(getaddrinfo("name", "80", &numbers, &found));
  TRY(getaddrinfo(NULL, NULL, &numbers, &found));
  TRY(getaddrinfo("127.0.0.1", NULL, &wrong, &found));
}
