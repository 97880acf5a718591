package apiserver

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/catalog"
	"berth/lambda"
)

// statement is one statement of a policy, its members in the order in which Lambda shows them.
type statement struct {
	SID       string     `json:"Sid"`
	Effect    string     `json:"Effect"`
	Principal any        `json:"Principal"`
	Action    string     `json:"Action"`
	Resource  string     `json:"Resource"`
	Condition *condition `json:"Condition,omitempty"`
}

type condition struct {
	StringEquals map[string]string `json:"StringEquals,omitempty"`
	ArnLike      map[string]string `json:"ArnLike,omitempty"`
	Bool         map[string]string `json:"Bool,omitempty"`
}

func (s *Server) addPermission(ctx context.Context, c *call, in *sdk.AddPermissionInput) (*sdk.AddPermissionOutput, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier == lambda.Latest {
		return nil, invalid("We currently do not support adding policies for $LATEST.")
	}
	principal, err := policyPrincipal(aws.ToString(in.Principal))
	if err != nil {
		return nil, err
	}
	text := quotedJSON(statement{
		SID: aws.ToString(in.StatementId), Effect: "Allow", Principal: principal, Action: aws.ToString(in.Action),
		Resource: ref.ARN(), Condition: policyCondition(in),
	})
	err = s.cfg.Catalog.AddStatement(ctx, idOf(ref), ref.Qualifier, aws.ToString(in.RevisionId),
		catalog.Statement{SID: aws.ToString(in.StatementId), JSON: json.RawMessage(text)})
	if err != nil {
		return nil, err
	}
	return &sdk.AddPermissionOutput{Statement: aws.String(text)}, nil
}

// quotedJSON returns v as JSON with <, > and & as they are.
func quotedJSON(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // strings and maps of strings into memory: cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}

// iamARN matches the principals of IAM and STS.
var iamARN = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*):(iam|sts):`)

// policyPrincipal turns the Principal of a request into that of a statement.
func policyPrincipal(p string) (any, error) {
	switch {
	case p == "*":
		return p, nil
	case strings.HasSuffix(p, ".amazonaws.com"):
		return map[string]string{"Service": p}, nil
	case len(p) == 12 && strings.Trim(p, "0123456789") == "":
		return map[string]string{"AWS": "arn:aws:iam::" + p + ":root"}, nil
	case iamARN.MatchString(p):
		return map[string]string{"AWS": p}, nil
	}
	return nil, invalid("The provided principal was invalid. Please check the principal and try again.")
}

func policyCondition(in *sdk.AddPermissionInput) *condition {
	equals := make(map[string]string)
	for name, value := range map[string]string{
		"AWS:SourceAccount":          aws.ToString(in.SourceAccount),
		"aws:PrincipalOrgID":         aws.ToString(in.PrincipalOrgID),
		"lambda:EventSourceToken":    aws.ToString(in.EventSourceToken),
		"lambda:FunctionUrlAuthType": string(in.FunctionUrlAuthType),
	} {
		if value != "" {
			equals[name] = value
		}
	}
	out := condition{StringEquals: equals}
	if in.SourceArn != nil {
		out.ArnLike = map[string]string{"AWS:SourceArn": *in.SourceArn}
	}
	if in.InvokedViaFunctionUrl != nil {
		out.Bool = map[string]string{"lambda:InvokedViaFunctionUrl": map[bool]string{true: "true", false: "false"}[*in.InvokedViaFunctionUrl]}
	}
	if len(out.StringEquals)+len(out.ArnLike)+len(out.Bool) == 0 {
		return nil
	}
	return &out
}

func (s *Server) getPolicy(_ context.Context, c *call, in *sdk.GetPolicyInput) (*sdk.GetPolicyOutput, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	p, ok := s.cfg.Catalog.Policy(idOf(ref), ref.Qualifier)
	if !ok {
		return nil, lambda.Errorf(lambda.ResourceNotFound, "The resource you requested does not exist.")
	}
	return &sdk.GetPolicyOutput{Policy: aws.String(p.Text()), RevisionId: aws.String(p.RevisionID)}, nil
}

func (s *Server) removePermission(ctx context.Context, c *call, in *sdk.RemovePermissionInput) (*none, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	err = s.cfg.Catalog.RemoveStatement(ctx, idOf(ref), ref.Qualifier, aws.ToString(in.RevisionId), aws.ToString(in.StatementId))
	return &none{}, err
}
