package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

func TestEvents(t *testing.T) {
	d, data := newDouble(t)
	answer := ""
	d.own = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/berth/v1/events/hello" {
			w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"Type":"User","Message":"Function not found"}`)
			return
		}
		io.WriteString(w, answer)
	}
	answer = `{"queued":12,"inFlight":3,"retrying":1,"dropped":{}}`
	command(t, nil, "", "events", "hello", "--data", data).want(t, 0, "QUEUED  IN FLIGHT  RETRYING  DROPPED\n12      3          1         0\n", "")
	answer = `{"queued":0,"inFlight":0,"retrying":0,"dropped":{"target-unreachable":2,"failed-untold":5},"partial":true}`
	command(t, nil, "", "events", "hello", "--data", data).want(t, 0, "7 (5 failed-untold, 2 target-unreachable)\n", "not every server answered")
	command(t, nil, "", "events", "hello", "--json", "--data", data).want(t, 0, `"dropped":{"failed-untold":5,"target-unreachable":2},"partial":true`, "")
	command(t, nil, "", "events", "nobody", "--data", data).want(t, 1, "", "`berth list`")
	command(t, nil, "", "events", "--data", data).want(t, 2, "", "arg")
}

func TestSchedules(t *testing.T) {
	d, data := newDouble(t)
	made := map[string]any{}
	d.own = func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/berth/v1/schedules/nightly":
			clear(made)
			if err := json.NewDecoder(r.Body).Decode(&made); err != nil {
				t.Error(err)
			}
			made["name"], made["next"] = "nightly", "2026-11-24T03:15:00Z"
			json.NewEncoder(w).Encode(made)
		case r.Method == http.MethodPut:
			w.Header().Set("X-Amzn-Errortype", "InvalidParameterValueException")
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"Type":"User","message":"the cron expression \"x\" is wrong"}`)
		case r.Method == http.MethodGet && r.URL.Path == "/berth/v1/schedules":
			list := []any{}
			if len(made) > 0 {
				list = append(list, made)
			}
			json.NewEncoder(w).Encode(map[string]any{"Schedules": list})
		case r.Method == http.MethodGet && made["name"] == "nightly":
			json.NewEncoder(w).Encode(made)
		case r.Method == http.MethodDelete && r.URL.Path == "/berth/v1/schedules/nightly":
			clear(made)
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"Type":"User","Message":"There is no schedule."}`)
		}
	}
	schedule := func(args ...string) result {
		return command(t, nil, `{"from":"stdin"}`, append([]string{"schedule", "--data", data}, args...)...)
	}
	schedule("list").want(t, 0, "", "no schedules yet")
	for _, args := range [][]string{
		{"nightly", "--function", "f"}, {"nightly", "--cron", "@daily"}, {"nightly", "--function", "f", "--cron", "@daily", "--rate", "5m"},
	} {
		schedule(append([]string{"add"}, args...)...).want(t, 2, "", "either --cron or --rate")
	}
	schedule("add", "nightly", "--function", "f", "--cron", "15 3 * * *", "--payload", "-").want(t, 0, "nightly  15 3 * * *  f         2026-11-24 03:15:00Z  0      0", "")
	if payload, ok := made["payload"].(map[string]any); !ok || payload["from"] != "stdin" || made["function"] != "f" || made["cron"] != "15 3 * * *" {
		t.Errorf("the server got %v", made)
	}
	schedule("add", "other", "--function", "f", "--cron", "x").want(t, 1, "", `the cron expression "x" is wrong`)
	schedule("list").want(t, 0, "NAME     WHEN        FUNCTION", "")
	schedule("add", "nightly", "--function", "f", "--cron", "15 3 * * *").want(t, 0, "nightly", "")
	if payload, ok := made["payload"]; ok {
		t.Errorf("no --payload: the function gets the schedule's name and tick, but the server was sent %v", payload)
	}
	schedule("list", "--json").want(t, 0, `"name":"nightly"`, "")
	made["missed"], made["lastMissed"], made["failure"] = 3, "2026-11-23T03:15:00Z", "there is no function"
	r := schedule("show", "nightly")
	r.want(t, 0, "nightly", "3 ticks were missed because no server ran, the newest at 2026-11-23 03:15:00Z")
	r.want(t, 0, "", "the last tick failed: there is no function")
	schedule("remove", "nightly").want(t, 0, "", "")
	schedule("show", "nightly").want(t, 1, "", "There is no schedule")
}
