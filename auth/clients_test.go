package auth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
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
	url, served := verifying(t)
	out, err := exec.Command("python3", "-c", calls, url, testKey.ID, testKey.Secret).CombinedOutput()
	if err != nil || served.Load() < 20 {
		t.Errorf("%d calls; %v\n%s", served.Load(), err, out)
	}
}

// verifying serves a server that verifies every request, and counts them.
func verifying(t *testing.T) (url string, served *atomic.Int64) {
	v := newVerifier()
	served = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		served.Add(1)
		if _, denied := v.Verify(r, body); denied != nil || err != nil {
			t.Errorf("%s %s: %v, %v", r.Method, r.RequestURI, denied, err)
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(server.Close)
	return server.URL, served
}

func TestVerifyTakesWhatTheGoClientSigns(t *testing.T) {
	url, served := verifying(t)
	client := awslambda.New(awslambda.Options{Region: testRegion, BaseEndpoint: &url, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: testKey.ID, SecretAccessKey: testKey.Secret}, nil
		})})
	arn := "arn:aws:lambda:us-east-1:000000000001:function:x"
	for _, name := range []string{"hello", arn, arn + ":$LATEST", "000000000001:function:x", "a b", "a/b", "a%2Fb", "ä€~_-.*()'!", "x?y#z&=+"} {
		_, err1 := client.Invoke(t.Context(), &awslambda.InvokeInput{FunctionName: &name, Qualifier: aws.String("$LATEST"), Payload: []byte(`{"a":1}`), ClientContext: aws.String("e30=")})
		_, err2 := client.GetFunction(t.Context(), &awslambda.GetFunctionInput{FunctionName: &name, Qualifier: &name})
		_, err3 := client.UntagResource(t.Context(), &awslambda.UntagResourceInput{Resource: &name, TagKeys: []string{"b", "a", "A b", "a/b", "a-b", "ä"}})
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if served.Load() != 27 {
		t.Errorf("%d calls arrived", served.Load())
	}
}
