package apiserver

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/catalog"
)

func (s *Server) addLayerVersionPermission(ctx context.Context, c *call, in *sdk.AddLayerVersionPermissionInput) (*sdk.AddLayerVersionPermissionOutput, error) {
	id, n, err := s.layerVersionID(c, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	principal, err := policyPrincipal(aws.ToString(in.Principal))
	if err != nil {
		return nil, err
	}
	st := statement{SID: aws.ToString(in.StatementId), Effect: "Allow", Principal: principal, Action: aws.ToString(in.Action),
		Resource: s.cfg.Catalog.LayerVersionARN(id, n)}
	if in.OrganizationId != nil {
		st.Condition = &condition{StringEquals: map[string]string{"aws:PrincipalOrgID": *in.OrganizationId}}
	}
	text := quotedJSON(st)
	p, err := s.cfg.Catalog.AddLayerStatement(ctx, id, n, aws.ToString(in.RevisionId),
		catalog.Statement{SID: st.SID, JSON: json.RawMessage(text)})
	if err != nil {
		return nil, err
	}
	return &sdk.AddLayerVersionPermissionOutput{RevisionId: aws.String(p.RevisionID), Statement: aws.String(text)}, nil
}

func (s *Server) getLayerVersionPolicy(_ context.Context, c *call, in *sdk.GetLayerVersionPolicyInput) (*sdk.GetLayerVersionPolicyOutput, error) {
	id, n, err := s.layerVersionID(c, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	p, err := s.cfg.Catalog.LayerPolicy(id, n)
	if err != nil {
		return nil, err
	}
	return &sdk.GetLayerVersionPolicyOutput{Policy: aws.String(p.Text()), RevisionId: aws.String(p.RevisionID)}, nil
}

func (s *Server) removeLayerVersionPermission(ctx context.Context, c *call, in *sdk.RemoveLayerVersionPermissionInput) (*none, error) {
	id, n, err := s.layerVersionID(c, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.RemoveLayerStatement(ctx, id, n, aws.ToString(in.RevisionId), aws.ToString(in.StatementId))
}
