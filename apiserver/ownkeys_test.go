package apiserver_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"berth/catalog"
	"berth/lambda"
)

// ownAs sends a signed request to one of Berth's own paths.
func (f *fixture) ownAs(t testing.TB, key lambda.AccessKey, method, path, body string) (status int, kind, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), "lambda", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), string(text)
}

// TestKeyRequests: whatever is asked of the paths for keys and accounts, the answer is whole, and no secret slips out.
func TestKeyRequests(t *testing.T) {
	f := start(t)
	f.keyFor(t, otherAccount, "", "")
	for _, tt := range []struct {
		method, path, body string
		status             int
		kind               lambda.Code
	}{
		{"GET", "/berth/v1/keys", "", 200, ""},
		{"GET", "/berth/v1/keys?account=000000000002", "", 200, ""},
		{"GET", "/berth/v1/keys?account=nobody", "", 200, ""},
		{"GET", "/berth/v1/keys/" + f.key.ID, "", 200, ""},
		{"GET", "/berth/v1/keys/none", "", 404, lambda.ResourceNotFound},
		{"GET", "/berth/v1/keys/a/b/../c", "", 404, lambda.ResourceNotFound},
		{"DELETE", "/berth/v1/keys/none", "", 404, lambda.ResourceNotFound},
		{"PUT", "/berth/v1/keys", "", 404, lambda.UnknownOperation},
		{"PATCH", "/berth/v1/keys/x", "", 404, lambda.UnknownOperation},
		{"POST", "/berth/v1/keys", "", 400, lambda.SerializationFailure},
		{"POST", "/berth/v1/keys", "[]", 400, lambda.SerializationFailure},
		{"POST", "/berth/v1/keys", `{"polcy":{}}`, 400, lambda.SerializationFailure},
		{"POST", "/berth/v1/keys", `{"policy":null}`, 400, lambda.MalformedPolicy},
		{"POST", "/berth/v1/keys", `{"policy":"text"}`, 400, lambda.MalformedPolicy},
		{"POST", "/berth/v1/keys", `{"policy":{}}`, 400, lambda.MalformedPolicy},
		{"POST", "/berth/v1/keys", `{"account":"` + strings.Repeat("9", 100) + `"}`, 404, lambda.ResourceNotFound},
		{"POST", "/berth/v1/keys", `{"user":"` + strings.Repeat("a", 140<<10) + `"}`, 413, lambda.RequestEntityTooLarge},
		{"GET", "/berth/v1/accounts", "", 200, ""},
		{"PUT", "/berth/v1/accounts", "", 404, lambda.UnknownOperation},
		{"POST", "/berth/v1/accounts", `{"number":"1"}`, 400, lambda.SerializationFailure},
		{"POST", "/berth/v1/accounts", `{"account":"../../../.."}`, 400, lambda.InvalidParameterValue},
		{"DELETE", "/berth/v1/accounts/..%2f..%2fkey", "", 404, lambda.ResourceNotFound},
		{"DELETE", "/berth/v1/accounts/000000000001", "", 409, lambda.ResourceConflict},
	} {
		status, kind, answer := f.ownAs(t, f.key, tt.method, tt.path, tt.body)
		if status != tt.status || kind != string(tt.kind) || strings.Contains(answer, f.key.Secret) || strings.Contains(answer, "secretAccessKey") {
			t.Errorf("%s %s %.80s: %d %s %.300s; want %d %s", tt.method, tt.path, tt.body, status, kind, answer, tt.status, tt.kind)
		}
	}
	if status, kind, _ := f.ownAs(t, lambda.AccessKey{ID: f.key.ID, Secret: "wrong", Account: catalog.FirstAccount}, "GET", "/berth/v1/keys", ""); status != 403 || kind != string(lambda.InvalidSignature) {
		t.Errorf("with a wrong secret: %d %s", status, kind)
	}
	resp, err := http.Get(f.URL + "/berth/v1/accounts")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("unsigned: %d", resp.StatusCode)
	}
}

// TestScheduleNeedsItsFunction: a key makes no schedule that calls what the key may not.
func TestScheduleNeedsItsFunction(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	maker := f.keyFor(t, catalog.FirstAccount, "ann", allow("berth:*", "*"))
	const body = `{"function":"f","rate":"5m"}`
	if status, kind, answer := f.ownAs(t, maker, "PUT", "/berth/v1/schedules/s", body); status != 403 || !strings.Contains(answer, "lambda:InvokeFunction") {
		t.Errorf("%d %s %s", status, kind, answer)
	}
	caller := f.keyFor(t, catalog.FirstAccount, "bob", `{"Statement":{"Effect":"Allow","Action":["berth:PutSchedule","lambda:InvokeFunction"],"Resource":"*"}}`)
	if status, _, answer := f.ownAs(t, caller, "PUT", "/berth/v1/schedules/s", body); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	for _, tt := range []struct{ method, path, action string }{
		{"GET", "/berth/v1/schedules/s", "berth:GetSchedule"}, {"DELETE", "/berth/v1/schedules/s", "berth:DeleteSchedule"},
		{"GET", "/berth/v1/schedules", "berth:ListSchedules"}, {"GET", "/berth/v1/events/f", "berth:GetEvents"},
	} {
		if status, _, answer := f.ownAs(t, caller, tt.method, tt.path, ""); status != 403 || !strings.Contains(answer, "to perform: "+tt.action+" on resource: ") {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, status, answer)
		}
	}
}
