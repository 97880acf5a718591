package auth

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// calls lets botocore, the CLI's and boto3's own library, sign what it finds hard.
const calls = `
import sys, botocore.session, botocore.config
s = botocore.session.Session()
s.set_credentials(sys.argv[2], sys.argv[3])
config = botocore.config.Config(retries={"max_attempts": 0}, parameter_validation=False)
c = s.create_client("lambda", region_name="us-east-1", endpoint_url=sys.argv[1], config=config)
arn = "arn:aws:lambda:us-east-1:000000000001:function:x"
for name in ["hello", arn, arn + ":$LATEST", "000000000001:function:x", "a b", "a/b", "a%2Fb", "ä€~_-.*()'!", "x?y#z&=+"]:
    c.invoke(FunctionName=name, Qualifier="$LATEST", Payload=b'{"a": "\xc3\xa4"}', ClientContext="e30=", LogType="Tail")
    c.get_function(FunctionName=name, Qualifier=name)
c.list_functions(FunctionVersion="ALL", MaxItems=50, Marker="a+b c/d==")
c.untag_resource(Resource=arn, TagKeys=["b", "a", "A b", "a/b", "a-b", "ä", ""])
c.list_tags(Resource=arn)
s.create_client("logs", region_name="us-east-1", endpoint_url=sys.argv[1] + "/", config=config).filter_log_events(logGroupName="/aws/lambda/x")
`

func TestVerifyTakesWhatBotocoreSigns(t *testing.T) {
	if out, err := exec.Command("python3", "-c", "import botocore").CombinedOutput(); err != nil {
		t.Skipf("needs python3 with botocore: %s", strings.TrimSpace(string(out)))
	}
	v, served := newVerifier(), atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		served.Add(1)
		if _, err := v.Verify(r, body); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.RequestURI, err)
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	defer server.Close()
	out, err := exec.Command("python3", "-c", calls, server.URL, testKey.ID, testKey.Secret).CombinedOutput()
	if err != nil || served.Load() < 20 {
		t.Errorf("%d calls; %v\n%s", served.Load(), err, out)
	}
}
