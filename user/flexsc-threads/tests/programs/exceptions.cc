// SPDX-License-Identifier: MIT OR Apache-2.0
// C++: exceptions in threads, thread_local destructors, futures, condition variables.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static std::atomic<int> destroyed;

struct Counted {
	int value = 0;
	~Counted() { destroyed += value; }
};

static thread_local Counted counted;

static int fails(int number)
{
	Counted local;

	local.value = 100;
	if (getppid() < 0 || number % 2)
		throw std::runtime_error("odd " + std::to_string(number));
	return number;
}

int main()
{
	std::vector<std::future<int>> results;
	std::vector<std::thread> threads;
	std::mutex mutex;
	std::condition_variable cond;
	int ready = 0;

	for (int i = 0; i < 6; i++)
		results.push_back(std::async(std::launch::async, fails, i));
	for (auto &result : results) {
		try {
			std::printf("result %d\n", result.get());
		} catch (const std::exception &error) {
			std::printf("error %s\n", error.what());
		}
	}
	for (int i = 1; i <= 10; i++) {
		threads.emplace_back([&, i] {
			counted.value = i;
			std::unique_lock<std::mutex> lock(mutex);
			ready++;
			cond.notify_all();
			cond.wait(lock, [&] { return ready == 10; });
		});
	}
	for (auto &thread : threads)
		thread.join();
	std::printf("destroyed %d\n", destroyed.load());
	return 0;
}
