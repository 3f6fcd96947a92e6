/* TestU01's batteries on the 32-bit little-endian words of standard input.

   cc -O2 tools/testu01_stdin.c -o testu01_stdin -ltestu01 -lprobdist -lmylib -lm
   python tools/write_words.py --key 0 | ./testu01_stdin SmallCrush

   Debian has the library in non-free, as libtestu01-0-dev, and calls its parts testu01probdist
   and testu01mylib. "SmallCrush reversed" reads each word's bits from the other end, because
   TestU01 looks at the top bits most. "Crush 1 10" runs the first ten tests of Crush.

   Source: L'Ecuyer and Simard, "TestU01: a C library for empirical testing of random number
   generators", ACM TOMS 33(4), 2007. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <TestU01.h>

enum { BLOCK = 1 << 16 };
static const double BITS = 1073741824; /* read by Rabbit and Alphabit */

static uint32_t block[BLOCK];
static size_t next = 0, held = 0;

static unsigned int word(void)
{
    if (next == held) {
        held = fread(block, sizeof *block, BLOCK, stdin);
        next = 0;
        if (held == 0) {
            fprintf(stderr, "the words ended before the battery did\n");
            exit(1);
        }
    }
    return block[next++];
}

static unsigned int reversed_word(void)
{
    uint32_t x = word();
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0F0F0F0F) | (x & 0x0F0F0F0F) << 4;
    return __builtin_bswap32(x);
}

/* Tests first to last of Crush's 96, one after the other: all of them take 2^35 words. */
static void part_of_crush(unif01_Gen *words, int first, int last)
{
    int times[1 + 96] = {0};
    for (int i = first; i <= last; i++)
        times[i] = 1;
    bbattery_RepeatCrush(words, times);
}

int main(int count, char **argument)
{
    const char *battery = count > 1 ? argument[1] : "";
    int reversed = count == 3 && strcmp(argument[2], "reversed") == 0;
    unif01_Gen *words =
        unif01_CreateExternGenBits("words of standard input", reversed ? reversed_word : word);
    swrite_Basic = FALSE; /* the summary only */
    if (strcmp(battery, "SmallCrush") == 0)
        bbattery_SmallCrush(words);
    else if (strcmp(battery, "Crush") == 0 && count == 4)
        part_of_crush(words, atoi(argument[2]), atoi(argument[3]));
    else if (strcmp(battery, "Crush") == 0)
        bbattery_Crush(words);
    else if (strcmp(battery, "BigCrush") == 0)
        bbattery_BigCrush(words);
    else if (strcmp(battery, "Rabbit") == 0)
        bbattery_Rabbit(words, BITS);
    else if (strcmp(battery, "Alphabit") == 0)
        bbattery_Alphabit(words, BITS, 0, 32);
    else {
        fprintf(stderr, "name SmallCrush, Crush, BigCrush, Rabbit or Alphabit\n");
        return 2;
    }
    for (int i = 0; i < bbattery_NTests; i++) /* all p-values, suspicious or not */
        printf("%-32s %.6f\n", bbattery_TestNames[i], bbattery_pVal[i]);
    unif01_DeleteExternGenBits(words);
    return 0;
}
