// SPDX-License-Identifier: Apache-2.0
int answer = 42;

int first(void)
{
	return answer;
}

int second(void)
{
	return answer + 1;
}

int third(void)
{
	return answer + 2;
}

void start(void)
{
	for (;;)
		;
}
