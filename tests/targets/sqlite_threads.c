// SPDX-License-Identifier: Apache-2.0
// Threads that share one connection of SQLite: its mutex is held by whoever runs a statement.
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { kThreads = 4, kRounds = 25 };

static sqlite3* db;
static pthread_barrier_t start;

static void check(int code, int wanted) {
  if (code == wanted) return;
  fprintf(stderr, "sqlite: %s\n", sqlite3_errmsg(db));
  exit(1);
}

static void insert_row(int thread, int round) {
  sqlite3_stmt* statement;
  check(sqlite3_prepare_v2(db, "INSERT INTO rows VALUES(?, ?, hex(?))", -1, &statement, NULL),
        SQLITE_OK);
  for (int i = 1; i <= 3; ++i)
    check(sqlite3_bind_int(statement, i, thread * kRounds + round), SQLITE_OK);
  check(sqlite3_step(statement), SQLITE_DONE);
  check(sqlite3_finalize(statement), SQLITE_OK);
}

// One step of some milliseconds, during which nobody else can use the connection.
static long long count_slowly(void) {
  sqlite3_stmt* statement;
  const char* sql =
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 10000) "
      "SELECT sum(i * i % 13) FROM c";
  check(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
  check(sqlite3_step(statement), SQLITE_ROW);
  const long long sum = sqlite3_column_int64(statement, 0);
  check(sqlite3_finalize(statement), SQLITE_OK);
  return sum;
}

static void* use_connection(void* argument) {
  long long* sum = argument;
  const int thread = (int)*sum;
  *sum = 0;
  pthread_barrier_wait(&start);
  for (int round = 0; round < kRounds; ++round) {
    insert_row(thread, round);
    *sum += count_slowly();
  }
  return NULL;
}

static int print_row(void* unused, int columns, char** values, char** names) {
  (void)unused;
  for (int i = 0; i < columns; ++i) printf("%s %s\n", names[i], values[i]);
  return 0;
}

int main(void) {
  check(sqlite3_open_v2(":memory:", &db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL),
        SQLITE_OK);
  check(sqlite3_exec(db, "CREATE TABLE rows(thread_round INT UNIQUE, again INT, text TEXT)", NULL,
                     NULL, NULL),
        SQLITE_OK);
  pthread_t threads[kThreads];
  long long sums[kThreads];
  pthread_barrier_init(&start, NULL, kThreads);
  for (int i = 0; i < kThreads; ++i) {
    sums[i] = i;
    pthread_create(&threads[i], NULL, use_connection, &sums[i]);
  }
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
  for (int i = 0; i < kThreads; ++i) printf("thread %d: %lld\n", i, sums[i]);
  const char* sql = "SELECT count(*), sum(again), max(text), sum(length(text)) FROM rows";
  check(sqlite3_exec(db, sql, print_row, NULL, NULL), SQLITE_OK);
  check(sqlite3_close(db), SQLITE_OK);
  return 3;
}
