package catalog

import (
	"strings"
	"testing"
	"time"
)

// TestScheduleErrors: what is wrong with an expression is said in Berth's words, with what was expected.
func TestScheduleErrors(t *testing.T) {
	for expression, want := range map[string]string{
		"every day":                     "has 2 fields: expected 5",
		"":                              "a schedule needs",
		"CRON_TZ=UTC":                   "has 0 fields",
		"CRON_TZ=Moon/North 0 7 * * *":  `no known time zone: expected one like CRON_TZ=Europe/Berlin, not "CRON_TZ=Moon/North"`,
		"TZ=Europe/Berlin 0 24 * * *":   `has "24" for the hour: expected 0 to 23`,
		"60 * * * *":                    `has "60" for the minute: expected 0 to 59`,
		"0 0 0 * *":                     `has "0" for the day of month: expected 1 to 31`,
		"0 0 * 13 *":                    `has "13" for the month`,
		"0 0 * * MON-XYZ":               `has "mon-xyz" for the day of week: expected 0 to 6 or SUN to SAT`,
		"*/0 * * * *":                   `has "*/0" for the minute`,
		"@often":                        "expected @hourly, @daily, @weekly, @monthly or @yearly",
		"@every x":                      "expected @hourly",
		"H * * * *":                     `has "h" for the minute`,
		"0 0 * * * 2030":                "has 6 fields",
		strings.Repeat("0,", 200) + "1": "at most 256 are allowed",
	} {
		_, err := (&Schedule{Cron: expression}).Ticks()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", expression, err, want)
			continue
		}
		if strings.Contains(want, "expected ") && !strings.HasPrefix(err.Error(), "Parameter ScheduleExpression is not valid: the cron expression ") {
			t.Errorf("%q: %v", expression, err)
		}
	}
}

// TestScheduleDayNames: days may be named in large letters, THU as well.
func TestScheduleDayNames(t *testing.T) {
	monday := time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	for _, expression := range []string{"0 7 * MAR THU", "0 7 * mar thu", "CRON_TZ=UTC 0 7 * 3 4"} {
		ticks, err := (&Schedule{Cron: expression}).Ticks()
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if next, want := ticks.Next(monday), monday.Add(3*24*time.Hour+7*time.Hour); !next.Equal(want) {
			t.Errorf("%s: %v, want %v", expression, next, want)
		}
	}
}
